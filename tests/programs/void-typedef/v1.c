#include "scenario.h"

typedef void CLIENT;

CLIENT *client_new(int id, CLIENT *next);
int client_id(CLIENT *c);
CLIENT *client_next(CLIENT *c);

STATE CLIENT *clients;

void fill(void)
{
    for (int i = 0; i < 5; i++)
        clients = client_new(i, clients);
}

const char *check(void)
{
    int i = 5;
    for (CLIENT *c = clients; c; c = client_next(c))
        EXPECT(client_id(c) == --i);
    EXPECT(i == 0);
    return NULL;
}
