#include "scenario.h"

struct stats {
    double load;
    int hits;
    long errors;
    long added;
};

static struct stats stats;

struct stats *address(void)
{
    return &stats;
}

void fill(void)
{
    stats.hits += 7;
    stats.errors -= 8;
    stats.load += 0.5;
}

const char *check(void)
{
    EXPECT(stats.hits == 7 && stats.errors == -8 && stats.load == 0.5);
    return NULL;
}
