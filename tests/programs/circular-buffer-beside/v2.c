#include "scenario.h"

/* Pointers into itself: of a block, and of a static. */
struct ring {
    char *read, *write, *end;
    char data[96];
    long total;
    int used;
};

STATE struct ring *ring, own;

static NOINLINE void put(struct ring *r, char c)
{
    if (r->write == NULL)
        r->read = r->write = r->data, r->end = r->data + sizeof r->data;
    *r->write++ = c;
    r->used++;
    if (r->write == r->end)
        r->write = r->data;
}

static NOINLINE int get(struct ring *r)
{
    if (r->used == 0)
        return -1;
    char c = *r->read++;
    r->used--;
    if (r->read == r->end)
        r->read = r->data;
    return c;
}

void fill(void)
{
    ring = calloc(1, sizeof *ring);
    for (int i = 0; i < 150; i++) {
        put(ring, (char)(i % 100));
        put(&own, (char)(i % 90));
        if (i >= 60) {
            get(ring);
            get(&own);
        }
    }
}

const char *check(void)
{
    EXPECT(ring->used == 60 && own.used == 60);
    EXPECT(ring->end == ring->data + sizeof ring->data && own.end == own.data + sizeof own.data);
    for (int i = 0; i < 60; i++) {
        int a = get(ring), b = get(&own);
        put(ring, (char)a);
        put(&own, (char)b);
        EXPECT(a == (90 + i) % 100 && b == (90 + i) % 90);
    }
    return NULL;
}
