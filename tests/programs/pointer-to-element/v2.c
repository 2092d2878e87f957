#include "scenario.h"

struct lane {
    struct lane *merges;
    short speed;
    long cars;
};

struct road {
    struct lane lanes[4];
};

STATE struct lane lanes[8], *busy, *fast, *side;
STATE struct lane *heap;
STATE struct road *road;
STATE short *limit, *third;

void fill(void)
{
    for (int i = 0; i < 8; i++)
        lanes[i] = (struct lane){.cars = i, .speed = (short)(10 * i)};
    heap = calloc(50, sizeof *heap);
    for (int i = 0; i < 50; i++)
        heap[i] = (struct lane){.cars = 1000 + i, .speed = (short)-i};
    road = calloc(1, sizeof *road);
    road->lanes[3].cars = 33;
    busy = &lanes[5];
    fast = &heap[49];
    side = &road->lanes[3];
    limit = &heap[20].speed;
    third = &lanes[3].speed;
}

const char *check(void)
{
    EXPECT(heap && road);
    EXPECT(busy == &lanes[5] && busy->cars == 5 && busy->speed == 50);
    EXPECT(fast == &heap[49] && fast->cars == 1049 && fast->speed == -49);
    EXPECT(side == &road->lanes[3] && side->cars == 33);
    EXPECT(limit == &heap[20].speed && *limit == -20);
    EXPECT(third == &lanes[3].speed && *third == 30);
    return NULL;
}
