#include "scenario.h"

struct node {
    long uses;
    int id;
    struct node *next;
};

struct holder {
    int count;
    struct node *nodes;
};

static struct holder *holder;

void fill(void)
{
    holder = calloc(1, sizeof *holder);
    holder->count = 5;
    for (int i = 0; i < 5; i++) {
        struct node *n = calloc(1, sizeof *n);
        n->id = i;
        n->next = holder->nodes;
        holder->nodes = n;
    }
}

const char *check(void)
{
    EXPECT(holder && holder->count == 5);
    int i = 5;
    for (struct node *n = holder->nodes; n; n = n->next)
        EXPECT(n->id == --i);
    EXPECT(i == 0);
    return NULL;
}
