#include "scenario.h"

struct cell {
    long age;
    int id;
    struct cell *next;
};

enum { CELLS = 30000, WORDS = 50000, BYTES = 3000000 };

STATE struct cell *cells, **order;
STATE unsigned char *bytes;

void fill(void)
{
    cells = calloc(CELLS, sizeof *cells);
    order = malloc(WORDS * sizeof *order);
    bytes = malloc(BYTES);
    for (int i = 0; i < CELLS; i++) {
        cells[i].id = i;
        cells[i].next = &cells[(i + 7919) % CELLS];
    }
    for (int i = 0; i < WORDS; i++)
        order[i] = &cells[(i * 31) % CELLS];
    memset(bytes, 0x5a, BYTES);
}

const char *check(void)
{
    EXPECT(cells && order && bytes);
    for (int i = 0; i < CELLS; i++)
        EXPECT(cells[i].id == i && cells[i].next == &cells[(i + 7919) % CELLS]);
    for (int i = 0; i < WORDS; i++)
        EXPECT(order[i] == &cells[(i * 31) % CELLS]);
    EXPECT(scenario_holds(bytes, BYTES, 0x5a));
    return NULL;
}
