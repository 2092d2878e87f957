#include "scenario.h"

struct stats {
    double load;
    char name[8];
    long errors;
    int hits;
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
