#include "scenario.h"

struct node {
    long age;
    int id;
    struct node *peer;
};

STATE struct node *kept, *gone;
STATE uintptr_t disguise;

void fill(void)
{
    struct node *peer = calloc(1, sizeof *peer);
    kept = calloc(1, sizeof *kept);
    kept->id = 3;
    gone = calloc(1, sizeof *gone);
    kept->peer = peer;
    disguise = ~(uintptr_t)gone;
    free(gone);
    free(peer);
}

const char *check(void)
{
    EXPECT(kept && kept->id == 3 && kept->peer != NULL);
    EXPECT((uintptr_t)gone == ~disguise);
    return NULL;
}
