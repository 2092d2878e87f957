#include "scenario.h"

struct ring {
    int used;
    int slots[4];
};

STATE struct ring *ring;

void fill(void)
{
    ring = malloc(sizeof *ring);
    ring->used = 4;
    for (int i = 0; i < 4; i++)
        ring->slots[i] = 10 + i;
}

const char *check(void)
{
    EXPECT(ring && ring->used == 4);
    for (int i = 0; i < 4; i++)
        EXPECT(ring->slots[i] == 10 + i);
    return NULL;
}
