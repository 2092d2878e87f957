#define SCENARIO_OWN_MAIN
#include "scenario.h"

struct limits {
    int connections;
    char *reason;
};

struct config {
    int timeout;
    struct limits *limits;
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
    EXPECT(config->timeout == 30 && config->limits && config->limits->connections == 100);
    EXPECT(strcmp(config->limits->reason, "too many") == 0);
    return NULL;
}

int main(void)
{
    config = calloc(1, sizeof *config);
    config->port = 80;
    config->name = strdup("default");
    config->timeout = 30;
    config->limits = calloc(1, sizeof *config->limits);
    config->limits->connections = 100;
    config->limits->reason = strdup("too many");
    scenario_loop();
    return 0;
}
