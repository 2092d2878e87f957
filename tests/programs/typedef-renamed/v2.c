#include "scenario.h"

typedef unsigned int tally_t;
typedef struct conn connection;
typedef void close_function(connection *);

struct conn {
    tally_t packets;
    connection *peer;
    close_function *on_close;
};

STATE connection *conn;
STATE tally_t total;

static void count_close(connection *c)
{
    c->packets++;
}

void fill(void)
{
    conn = malloc(sizeof *conn);
    connection *peer = malloc(sizeof *peer);
    *conn = (connection){11, peer, count_close};
    *peer = (connection){22, conn, NULL};
    total = 33;
}

const char *check(void)
{
    EXPECT(conn && conn->packets == 11 && conn->on_close == count_close);
    EXPECT(conn->peer->packets == 22 && conn->peer->peer == conn && conn->peer->on_close == NULL);
    EXPECT(total == 33);
    return NULL;
}
