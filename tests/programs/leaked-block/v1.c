#include "scenario.h"

struct node {
    int id;
    struct node *next;
};

STATE struct node *kept;
STATE void *volatile place;

static NOINLINE void leak(size_t size)
{
    place = malloc(size);
    memset(place, 1, size);
    place = NULL;
}

void fill(void)
{
    kept = calloc(1, sizeof *kept);
    kept->id = 4;
    leak(100);
    leak(24);
    leak(200000);
}

const char *check(void)
{
    EXPECT(kept && kept->id == 4 && kept->next == NULL);
    return NULL;
}
