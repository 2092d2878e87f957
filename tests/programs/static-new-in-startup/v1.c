#define SCENARIO_OWN_MAIN
#include "scenario.h"

struct user {
    int id;
    struct user *next;
};

STATE struct user *users;

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
    return NULL;
}

int main(void)
{
    scenario_loop();
    return 0;
}
