#include "scenario.h"

struct ring {
    struct ring *next;
    long weight;
    int id;
    struct ring *self;
};

STATE struct ring *ring, *lonely;

void fill(void)
{
    struct ring *last = NULL;
    for (int i = 99; i >= 0; i--) {
        struct ring *r = malloc(sizeof *r);
        r->id = i;
        r->next = ring;
        r->self = r;
        if (last == NULL)
            last = r;
        ring = r;
    }
    last->next = ring;
    lonely = malloc(sizeof *lonely);
    lonely->id = -1;
    lonely->next = lonely->self = lonely;
}

const char *check(void)
{
    struct ring *r = ring;
    for (int i = 0; i < 100; i++, r = r->next)
        EXPECT(r && r->id == i && r->self == r);
    EXPECT(r == ring);
    EXPECT(lonely->id == -1 && lonely->next == lonely && lonely->self == lonely);
    return NULL;
}
