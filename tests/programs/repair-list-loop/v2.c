#include "scenario.h"

struct item {
    struct item *next;
    long weight;
    int key;
};

STATE struct item *first;

void fill(void)
{
    for (int key = 3; key > 0; key--) {
        struct item *item = calloc(1, sizeof *item);
        item->key = key;
        item->next = first;
        first = item;
    }
}

const char *check(void)
{
    EXPECT(first->key == 1 && first->next->key == 2 && first->next->next->key == 3);
    EXPECT(first->next->next->next == NULL);
    return NULL;
}
