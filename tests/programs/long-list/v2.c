#include "scenario.h"

struct node {
    long weight;
    int id;
    struct node *next;
};

enum { NODES = 1000000 };

STATE struct node *first, *last;

void fill(void)
{
    for (int i = 0; i < NODES; i++) {
        struct node *n = calloc(1, sizeof *n);
        n->id = i;
        if (last)
            last->next = n;
        else
            first = n;
        last = n;
    }
}

const char *check(void)
{
    int i = 0;
    struct node *end = NULL;
    for (struct node *n = first; n; end = n, n = n->next, i++)
        EXPECT(n->id == i);
    EXPECT(i == NODES && last == end);
    return NULL;
}
