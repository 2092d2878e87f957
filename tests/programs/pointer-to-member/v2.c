#include "scenario.h"

struct stats {
    long bytes;
    int hits;
    int errors;
};

struct server {
    long started;
    char name[24];
    struct stats stats;
};

STATE struct server *server, spare;
STATE int *hottest, *spare_hits;
STATE struct stats *shown;
STATE long *clock_of;

void fill(void)
{
    server = malloc(sizeof *server);
    *server = (struct server){159, "alpha", {0, 14, 3}};
    spare = (struct server){828, "beta", {0, 71, 2}};
    hottest = &server->stats.hits;
    spare_hits = &spare.stats.hits;
    shown = &server->stats;
    clock_of = &spare.started;
}

const char *check(void)
{
    EXPECT(server && strcmp(server->name, "alpha") == 0 && server->started == 159);
    EXPECT(hottest == &server->stats.hits && *hottest == 14);
    EXPECT(spare_hits == &spare.stats.hits && *spare_hits == 71);
    EXPECT(shown == &server->stats && shown->errors == 3);
    EXPECT(clock_of == &spare.started && *clock_of == 828);
    return NULL;
}
