#define SCENARIO_OWN_MAIN
#include "scenario.h"

struct config {
    int port;
    char *name;
};

STATE struct config *config;

void fill(void)
{
    config->port = 8080;
    free(config->name);
    config->name = strdup("set at run time");
}

const char *check(void)
{
    EXPECT(config && config->port == 8080 && strcmp(config->name, "set at run time") == 0);
    return NULL;
}

int main(void)
{
    config = calloc(1, sizeof *config);
    config->port = 80;
    config->name = strdup("default");
    scenario_loop();
    return 0;
}
