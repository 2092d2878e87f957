#include "scenario.h"

/* A list with one word for both directions. */
struct node {
    uintptr_t both;
    int id;
    char fill[40];
};

struct other {
    int id;
    long age, values[40];
};

STATE uintptr_t ends; /* the first node, hidden as well */
STATE struct other *other;

void fill(void)
{
    struct node *before = NULL, *last = NULL;
    for (int i = 0; i < 100; i++) {
        struct node *node = calloc(1, sizeof *node);
        node->id = i;
        node->both = (uintptr_t)before;
        if (before)
            before->both ^= (uintptr_t)node;
        else
            last = node;
        before = node;
    }
    ends = ~(uintptr_t)last;
    other = calloc(1, sizeof *other);
    other->id = 4;
}

const char *check(void)
{
    uintptr_t before = 0, at = ~ends;
    int count = 0;
    while (at) {
        const struct node *node = (const struct node *)at;
        EXPECT(node->id == count);
        uintptr_t next = before ^ node->both;
        before = at;
        at = next;
        count++;
    }
    EXPECT(count == 100 && other->id == 4);
    return NULL;
}
