#include "scenario.h"

typedef unsigned int counter_t;
typedef struct conn conn_t;
typedef void handler_t(conn_t *);

struct conn {
    counter_t packets;
    conn_t *peer;
    handler_t *on_close;
};

STATE conn_t *conn;
STATE counter_t total;

static void count_close(conn_t *c)
{
    c->packets++;
}

void fill(void)
{
    conn = malloc(sizeof *conn);
    conn_t *peer = malloc(sizeof *peer);
    *conn = (conn_t){11, peer, count_close};
    *peer = (conn_t){22, conn, NULL};
    total = 33;
}

const char *check(void)
{
    EXPECT(conn && conn->packets == 11 && conn->on_close == count_close);
    EXPECT(conn->peer->packets == 22 && conn->peer->peer == conn && conn->peer->on_close == NULL);
    EXPECT(total == 33);
    return NULL;
}
