#define SCENARIO_BUSY
#include "scenario.h"

struct entry {
    long key;
    double weight;
};

STATE struct entry *table;
STATE size_t count;

void fill(void)
{
    count = 50;
    table = malloc(count * sizeof *table);
    for (int i = 0; i < 50; i++)
        table[i] = (struct entry){49 - i, (49 - i) / 2.0};
}

const char *check(void)
{
    EXPECT(table && count >= 50);
    for (int i = 0; i < 50; i++)
        EXPECT(table[i].key == 49 - i && table[i].weight == (49 - i) / 2.0);
    return NULL;
}

const char *busy(void)
{
    struct entry *grown = realloc(table, 100 * sizeof *grown);
    EXPECT(grown);
    table = grown;
    count = 100;
    return check();
}
