#include "scenario.h"

#define UNIT 1000

struct conn {
    int id;
    int timeout; /* milliseconds */
    struct conn *next;
};

struct pool {
    struct conn spare[3];
    struct conn *first;
};

STATE struct conn *conns;
STATE struct pool pool;
STATE struct conn *array;

void fill(void)
{
    for (int i = 0; i < 5; i++) {
        struct conn *c = malloc(sizeof *c);
        *c = (struct conn){i, (30 + i) * UNIT, conns};
        conns = c;
    }
    for (int i = 0; i < 3; i++)
        pool.spare[i] = (struct conn){100 + i, (7 + i) * UNIT, NULL};
    pool.first = conns;
    array = calloc(4, sizeof *array);
    for (int i = 0; i < 4; i++)
        array[i] = (struct conn){200 + i, i * UNIT, &pool.spare[1]};
}

const char *check(void)
{
    int i = 4;
    for (struct conn *c = conns; c; c = c->next, i--)
        EXPECT(c->id == i && c->timeout == (30 + i) * UNIT);
    EXPECT(i == -1 && pool.first == conns);
    for (i = 0; i < 3; i++)
        EXPECT(pool.spare[i].id == 100 + i && pool.spare[i].timeout == (7 + i) * UNIT);
    for (i = 0; i < 4; i++)
        EXPECT(array[i].timeout == i * UNIT && array[i].next == &pool.spare[1]);
    return NULL;
}
