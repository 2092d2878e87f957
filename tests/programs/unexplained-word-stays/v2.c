/* Only the holder changes. */
#include "scenario.h"

struct node {
    int id;
    struct node *next;
};

struct holder {
    uintptr_t tagged;
    uint64_t plain;
    long limit;
    long count;
};

STATE struct holder *holder;
STATE struct node *nodes;

void fill(void)
{
    for (int i = 0; i < 3; i++) {
        struct node *n = malloc(sizeof *n);
        *n = (struct node){i, nodes};
        nodes = n;
    }
    holder = calloc(1, sizeof *holder);
    holder->tagged = (uintptr_t)nodes | 1;
    holder->plain = (uintptr_t)nodes->next + 8;
    holder->count = 3;
}

const char *check(void)
{
    EXPECT(holder && holder->count == 3);
    EXPECT(holder->tagged == ((uintptr_t)nodes | 1) && nodes->id == 2);
    EXPECT(holder->plain == (uintptr_t)&nodes->next->next);
    return NULL;
}
