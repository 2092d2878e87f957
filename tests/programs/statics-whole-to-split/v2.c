#include "scenario.h"

struct stats {
    int hits;
    long errors;
    double load;
};

static struct stats stats;

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
