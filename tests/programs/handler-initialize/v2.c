#include "scenario.h"

struct conn {
    int timeout;
    long started;
    long deadline;
    struct conn *next;
};

STATE struct conn *conns;
STATE long total;

void fill(void)
{
    for (int i = 0; i < 4; i++) {
        struct conn *c = calloc(1, sizeof *c);
        c->timeout = 10 * i;
        c->started = 1000 + i;
        c->deadline = c->started + c->timeout;
        total += c->timeout;
        c->next = conns;
        conns = c;
    }
}

const char *check(void)
{
    int i = 3;
    for (struct conn *c = conns; c; c = c->next, i--)
        EXPECT(c->timeout == 10 * i && c->started == 1000 + i && c->deadline == c->started + c->timeout);
    EXPECT(i == -1);
    EXPECT(total == 60);
    return NULL;
}
