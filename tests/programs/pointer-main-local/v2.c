#define SCENARIO_OWN_MAIN
#include "scenario.h"

struct server {
    int port;
    char name[16];
    struct server *self;
};

STATE struct server *server;
STATE int *rounds;
STATE long unrelated;

void fill(void)
{
    server->port = 8080;
    strcpy(server->name, "from main");
    *rounds = 17;
    unrelated++;
}

const char *check(void)
{
    EXPECT(server->port == 8080 && server->self == server && strcmp(server->name, "from main") == 0);
    EXPECT(*rounds == 17);
    return NULL;
}

int main(void)
{
    struct server local = {0, "", &local};
    int count = 0;

    server = &local;
    rounds = &count;
    scenario_loop();
    return count == 17 && local.port == 8080 ? 0 : 1;
}
