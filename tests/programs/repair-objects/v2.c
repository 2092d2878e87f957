#include "scenario.h"

/* Wild pointers and counts out of range in objects everywhere: on the heap, in an array, inside another struct. */
struct node {
    struct node *other;
    long stamp;
    unsigned char values[39];
    unsigned char count;
};

struct pool {
    int number;
    struct node spare[3];
};

STATE struct pool pool;
STATE struct node *head;

static void set(struct node *node)
{
    node->other = NULL;
    node->count = sizeof node->values;
    node->values[6] = 9;
}

void fill(void)
{
    pool.number = 3;
    head = calloc(2, sizeof *head);
    head[0].other = &head[1];
    set(&head[1]);
    for (int i = 0; i < 3; i++)
        set(&pool.spare[i]);
    pool.spare[1].other = head;
}

const char *check(void)
{
    EXPECT(head[0].other == &head[1] && head[0].count == 0);
    EXPECT(head[1].other == NULL && head[1].count == 39 && head[1].values[6] == 9);
    EXPECT(pool.number == 3 && pool.spare[1].other == head && pool.spare[2].other == NULL);
    for (int i = 0; i < 3; i++)
        EXPECT(pool.spare[i].count == 39 && pool.spare[i].values[6] == 9);
    return NULL;
}
