#include "scenario.h"

struct cache {
    int hits;
    char *name;
};

struct table {
    int rows[5];
    struct cache *cache;
};

STATE struct cache cache;
STATE struct table *table;
STATE int *row;

void fill(void)
{
    cache = (struct cache){31, strdup("a cache")};
    table = malloc(sizeof *table);
    *table = (struct table){{1, 2, 3, 4, 5}, &cache};
    row = &table->rows[3];
}

const char *check(void)
{
    EXPECT(cache.hits == 31 && strcmp(cache.name, "a cache") == 0);
    EXPECT(table->rows[4] == 5 && table->cache == &cache && *row == 4 && row == &table->rows[3]);
    return NULL;
}
