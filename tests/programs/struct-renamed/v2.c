#include "scenario.h"

struct customer {
    int number;
    struct customer *next;
};

STATE struct customer *first;

void fill(void)
{
    for (int i = 0; i < 3; i++) {
        struct customer *c = malloc(sizeof *c);
        *c = (struct customer){i, first};
        first = c;
    }
}

const char *check(void)
{
    EXPECT(first && first->number == 2 && first->next->next->number == 0);
    EXPECT(first->next->next->next == NULL);
    return NULL;
}
