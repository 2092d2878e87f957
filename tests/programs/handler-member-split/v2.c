#include "scenario.h"

struct user {
    short id;
    char first[16];
    char last[24];
    struct user *next;
};

STATE struct user *users;

void fill(void)
{
    for (int i = 0; i < 6; i++) {
        struct user *u = calloc(1, sizeof *u);
        u->id = (short)i;
        snprintf(u->first, sizeof u->first, "Ada%d", i);
        snprintf(u->last, sizeof u->last, "Lovelace%d", i * 7);
        u->next = users;
        users = u;
    }
}

const char *check(void)
{
    char first[64], last[64];
    int i = 5;
    for (struct user *u = users; u; u = u->next, i--) {
        snprintf(first, sizeof first, "Ada%d", i);
        snprintf(last, sizeof last, "Lovelace%d", i * 7);
        EXPECT(u->id == i && strcmp(u->first, first) == 0 && strcmp(u->last, last) == 0);
    }
    EXPECT(i == -1);
    return NULL;
}
