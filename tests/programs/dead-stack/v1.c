#include "scenario.h"

struct cell {
    int number;
    int *shallow, *deep; /* to locals of functions that have long returned */
    struct cell *next;
};

STATE struct cell *cells;

static NOINLINE int *near_local(int number)
{
    int local[4] = {number};
    int *volatile out = local; /* the compiler must not see what is returned */
    return out;
}

static NOINLINE int *far_local(int number)
{
    char room[60000];
    int *volatile out = (int *)(void *)room;
    memset(room, number, sizeof room);
    return out;
}

void fill(void)
{
    for (int i = 0; i < 4; i++) {
        struct cell *c = malloc(sizeof *c);
        *c = (struct cell){i, near_local(i), far_local(i), cells};
        cells = c;
    }
}

const char *check(void)
{
    const char *here = __builtin_frame_address(0);
    int i = 3;
    EXPECT(cells);
    for (struct cell *c = cells; c; c = c->next, i--) {
        EXPECT(c->number == i);
        EXPECT((const char *)c->shallow < here + 4096 && (const char *)c->shallow > here - 65536);
        EXPECT((char *)c->shallow - (char *)c->deep > 50000 && (char *)c->shallow - (char *)c->deep < 70000);
    }
    return NULL;
}
