#include "scenario.h"

struct user {
    long id;
    char name[32];
    struct user *next;
};

STATE struct user *users;

void fill(void)
{
    for (int i = 0; i < 6; i++) {
        struct user *u = calloc(1, sizeof *u);
        u->id = i;
        snprintf(u->name, sizeof u->name, "Ada%d Lovelace%d", i, i * 7);
        u->next = users;
        users = u;
    }
}

const char *check(void)
{
    char name[64];
    int i = 5;
    for (struct user *u = users; u; u = u->next, i--) {
        snprintf(name, sizeof name, "Ada%d Lovelace%d", i, i * 7);
        EXPECT(u->id == i && strcmp(u->name, name) == 0);
    }
    EXPECT(i == -1);
    return NULL;
}
