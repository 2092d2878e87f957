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
    struct stays *copy;
    struct moved *self_word;
    struct stays *stay;
    int words[3];
    struct moved *next;
};

STATE struct moved *list;
struct audit {
    int lines;
    struct stays *last;
};

STATE struct audit *audit;
STATE int total;

void fill(void)
{
    for (int i = 0; i < 40; i++) {
        struct moved *m = calloc(1, sizeof *m);
        m->id = i;
        m->stay = calloc(1, sizeof *m->stay);
        m->copy = calloc(1, sizeof *m->copy);
        *m->copy = (struct stays){(short)i, i * 3, NULL, "a text of twenty chars"};
        *m->stay = *m->copy;
        m->stay->value += 100;
        m->stay->owner = m->self_word = m;
        m->words[0] = m->words[2] = -i;
        m->words[1] = 7;
        m->next = list;
        list = m;
        total += i;
    }
    audit->lines = 42;
    audit->last = list->stay;
}

const char *check(void)
{
    int i = 39;
    for (struct moved *m = list; m; m = m->next, i--) {
        EXPECT(m->id == i && m->stay->small == i && strncmp(m->stay->text, "a text of twenty char", 21) == 0);
        EXPECT(m->words[0] == -i && m->words[2] == -i);
        EXPECT(m->stay->value == i * 3 + 100 && m->stay->owner == m && m->words[1] == 7);
        EXPECT(m->copy->value == i * 3 && m->copy->owner == NULL && m->self_word == m);
        EXPECT(strncmp(m->copy->text, "a text of twenty char", 21) == 0);
    }
    EXPECT(i == -1);
    EXPECT(total == 780 && audit->lines == 42 && audit->last == audit->last->owner->stay);
    return NULL;
}

const char *busy(void)
{
    for (struct moved *m = list; m; m = m->next) {
        struct stays *again = malloc(sizeof *again);
        *again = *m->copy;
        free(m->copy);
        m->copy = again;
    }
    return check();
}

int main(void)
{
    audit = calloc(1, sizeof *audit);
    audit->lines = 2;
    scenario_loop();
    return 0;
}
