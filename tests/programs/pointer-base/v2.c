#include "scenario.h"

struct user {
    long age;
    int id;
    struct user *friend;
};

STATE struct user *users[12], *oldest, **favourite;

void fill(void)
{
    for (int i = 0; i < 12; i++) {
        users[i] = calloc(1, sizeof *users[i]);
        users[i]->id = i;
    }
    for (int i = 0; i < 12; i++)
        users[i]->friend = users[(i * 5 + 3) % 12];
    oldest = users[4];
    favourite = &users[7];
}

const char *check(void)
{
    for (int i = 0; i < 12; i++)
        EXPECT(users[i] && users[i]->id == i && users[i]->friend == users[(i * 5 + 3) % 12]);
    EXPECT(oldest == users[4] && favourite == &users[7] && (*favourite)->id == 7);
    return NULL;
}
