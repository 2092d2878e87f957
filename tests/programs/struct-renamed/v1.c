#include "scenario.h"

struct client {
    int number;
    struct client *next;
};

STATE struct client *first;

void fill(void)
{
    for (int i = 0; i < 3; i++) {
        struct client *c = malloc(sizeof *c);
        *c = (struct client){i, first};
        first = c;
    }
}

const char *check(void)
{
    EXPECT(first && first->number == 2 && first->next->next->number == 0);
    EXPECT(first->next->next->next == NULL);
    return NULL;
}
