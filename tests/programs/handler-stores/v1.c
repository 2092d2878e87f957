#define SCENARIO_OWN_MAIN
#define SCENARIO_BUSY
#include "scenario.h"

struct moved;

struct stays {
    short small;
    int value;
    struct moved *owner;
    char text[21];
};

struct moved {
    int id;

    struct stays *stay;
    int words[3];
    struct moved *next;
};

STATE struct moved *list;

void fill(void)
{
    for (int i = 0; i < 40; i++) {
        struct moved *m = calloc(1, sizeof *m);
        m->id = i;
        m->stay = calloc(1, sizeof *m->stay);
        *m->stay = (struct stays){(short)i, i * 3, NULL, "a text of twenty chars"};
        m->words[0] = m->words[2] = -i;
        m->next = list;
        list = m;
    }
}

const char *check(void)
{
    int i = 39;
    for (struct moved *m = list; m; m = m->next, i--) {
        EXPECT(m->id == i && m->stay->small == i && strncmp(m->stay->text, "a text of twenty char", 21) == 0);
        EXPECT(m->words[0] == -i && m->words[2] == -i);
        EXPECT(m->stay->value == i * 3);
    }
    EXPECT(i == -1);

    return NULL;
}

const char *busy(void)
{

    return check();
}

int main(void)
{

    scenario_loop();
    return 0;
}
