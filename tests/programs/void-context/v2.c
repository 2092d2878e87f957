#include "scenario.h"

/* A table of callbacks with their contexts: only void pointers lead to the sessions. */
struct peer {
    int id;
    char name[20];
};

struct session {
    struct peer *peer;
    int kind;
    long bytes;
    struct session *other;
};

struct callback {
    void (*call)(void *context);
    void *context;
};

STATE struct callback callbacks[16];
STATE struct peer *peers[16];
STATE long total;

static void count(void *context)
{
    struct session *session = context;
    total += session->bytes + session->peer->id;
}

void fill(void)
{
    for (int i = 0; i < 16; i++) {
        struct session *session = calloc(1, sizeof *session);
        session->peer = peers[i] = calloc(1, sizeof *session->peer);
        session->peer->id = i;
        session->bytes = 100;
        callbacks[i] = (struct callback){count, session};
    }
}

const char *check(void)
{
    total = 0;
    for (int i = 0; i < 16; i++)
        callbacks[i].call(callbacks[i].context);
    EXPECT(total == 1720);
    return NULL;
}
