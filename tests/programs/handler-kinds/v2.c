#define SCENARIO_BUSY
#include "scenario.h"

struct cache {
    long hits;
    long misses;
    char *name;
};

struct table {
    int rows[5];
    int extra;
    struct cache *cache;
};

STATE struct cache *cache;
STATE struct table table;
STATE int *row;

void fill(void)
{
    cache = malloc(sizeof *cache);
    *cache = (struct cache){31, 0, strdup("a cache")};
    table = (struct table){{1, 2, 3, 4, 5}, 0, cache};
    row = &table.rows[3];
}

const char *check(void)
{
    EXPECT(cache && cache->hits == 31 && strcmp(cache->name, "a cache") == 0);
    EXPECT(table.rows[4] == 5 && table.cache == cache && *row == 4 && row == &table.rows[3]);
    return NULL;
}

const char *busy(void)
{
    cache = realloc(cache, 1000);
    table.cache = cache;
    return check();
}
