#include "scenario.h"

struct vector {
    float lanes[16];
};

struct holder {
    int id;
    struct vector *vector;
    void *page;
};

STATE struct holder *holder;
STATE uintptr_t disguise;

void fill(void)
{
    void *memory = NULL;
    holder = calloc(1, sizeof *holder);
    holder->id = 1;
    if (posix_memalign(&memory, 256, sizeof *holder->vector) == 0)
        holder->vector = memory;
    memset(holder->vector, 0, sizeof *holder->vector);
    holder->vector->lanes[15] = 1.5f;
    holder->page = aligned_alloc(4096, 8192);
    memset(holder->page, 7, 8192);
    disguise = ~(uintptr_t)holder->vector;
}

const char *check(void)
{
    EXPECT(holder && holder->id == 1 && holder->vector->lanes[15] == 1.5f);
    EXPECT((uintptr_t)holder->vector == ~disguise && (uintptr_t)holder->vector % 256 == 0);
    EXPECT((uintptr_t)holder->page % 4096 == 0 && scenario_holds(holder->page, 8192, 7));
    return NULL;
}
