#include "scenario.h"

typedef int method(int);

struct meter {
    int level, limit;
};

STATE method *step;
STATE struct meter meter = {3, 40};
STATE struct meter *watched;
STATE int counts[4];
STATE int *counted;

static NOINLINE int twice(int x)
{
    return 2 * x;
}

void fill(void)
{
    step = twice;
    watched = &meter;
    counted = counts;
    counts[0] = 7;
}

const char *check(void)
{
    EXPECT(step == twice && step(21) == 42);
    EXPECT(watched == &meter && watched->limit == 40);
    EXPECT(counted == counts && counts[0] == 7);
    return NULL;
}
