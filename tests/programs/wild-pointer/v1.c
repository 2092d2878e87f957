#include "scenario.h"

struct item {
    struct item *next;
    int value;
};

STATE struct item *first;

void fill(void)
{
    first = calloc(1, sizeof *first);
    first->value = 5;
    first->next = (struct item *)0x123456789000;
}

const char *check(void)
{
    EXPECT(first && first->value == 5);
    EXPECT(first->next == (struct item *)0x123456789000);
    return NULL;
}
