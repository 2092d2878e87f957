#define SCENARIO_OWN_MAIN
#include "scenario.h"

int level = 1;
STATE char *volatile mode;
STATE struct {
    int sessions;
    int port;
} server;
STATE long filled;

void fill(void)
{
    level = 1;
    free(mode);
    mode = NULL;
    server.sessions = 0;
    filled = 1;
}

const char *check(void)
{
    EXPECT(filled && level == 1 && mode == NULL && server.sessions == 0 && server.port == 80);
    return NULL;
}

int main(void)
{
    level = 5;
    mode = strdup("starting");
    server.sessions = 9;
    server.port = 80;
    scenario_loop();
    return 0;
}
