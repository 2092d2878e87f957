#define SCENARIO_OWN_MAIN
#include "scenario.h"

struct user {
    int id;
    struct user *next;
};

struct audit {
    char *file;
    int lines;
};

STATE struct user *users;
STATE struct audit *audit;
STATE int started;

void fill(void)
{
    for (int i = 0; i < 4; i++) {
        struct user *u = calloc(1, sizeof *u);
        u->id = i;
        u->next = users;
        users = u;
    }
}

const char *check(void)
{
    EXPECT(users && users->id == 3 && users->next->next->next->id == 0);
    EXPECT(started == 7 && audit && audit->lines == 12 && strcmp(audit->file, "audit.log") == 0);
    return NULL;
}

int main(void)
{
    started = 7;
    audit = calloc(1, sizeof *audit);
    *audit = (struct audit){strdup("audit.log"), 12};
    scenario_loop();
    return 0;
}
