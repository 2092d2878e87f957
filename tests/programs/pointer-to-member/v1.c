/* Pointers into the middle of structs, on the heap and in statics. */
#include "scenario.h"

struct stats {
    int errors;
    int hits;
};

struct server {
    char name[8];
    struct stats stats;
    long started;
};

STATE struct server *server, spare;
STATE int *hottest, *spare_hits;
STATE struct stats *shown;
STATE long *clock_of;

void fill(void)
{
    server = malloc(sizeof *server);
    *server = (struct server){"alpha", {3, 14}, 159};
    spare = (struct server){"beta", {2, 71}, 828};
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
