#include "scenario.h"

/* A table whose places are found from the address of the key: keys that move are not found any more. */
struct key {
    int id;
};

struct slot {
    const struct key *key;
    long age;
    int value;
};

STATE struct slot table[128];
STATE struct key *keys[40];

static NOINLINE struct slot *find(const struct key *key)
{
    size_t at = (uintptr_t)key / 16 % 128;
    while (table[at].key && table[at].key != key)
        at = (at + 1) % 128;
    return &table[at];
}

void fill(void)
{
    for (int i = 0; i < 40; i++) {
        keys[i] = calloc(1, sizeof *keys[i]);
        keys[i]->id = i;
        *find(keys[i]) = (struct slot){keys[i], 0, 3 * i};
    }
}

const char *check(void)
{
    for (int i = 0; i < 40; i++)
        EXPECT(keys[i]->id == i && find(keys[i])->value == 3 * i);
    return NULL;
}
