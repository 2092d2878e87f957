#include "scenario.h"

struct node {
    int id;
    long values[4];
};

struct watch {
    const char *name;
    uintptr_t place;
};

STATE struct node *node;
STATE struct watch watches[4];

void fill(void)
{
    node = calloc(1, sizeof *node);
    node->id = 6;
    watches[2] = (struct watch){"watch", ((uintptr_t)node | 1)};
}

const char *check(void)
{
    EXPECT(node && node->id == 6);
    EXPECT(watches[2].name && watches[2].place == ((uintptr_t)node | 1));
    return NULL;
}
