#include "scenario.h"

struct item {
    int key;
    struct item *next;
};

STATE struct item *items;

void fill(void)
{
    for (int i = 0; i < 50; i++) {
        struct item *it = malloc(sizeof *it);
        *it = (struct item){i, items};
        items = it;
    }
}

const char *check(void)
{
    int i = 49;
    for (struct item *it = items; it; it = it->next, i--)
        EXPECT(it->key == i);
    EXPECT(i == -1);
    return NULL;
}
