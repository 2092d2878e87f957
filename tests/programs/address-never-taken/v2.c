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
    meter.level++;
}

const char *check(void)
{
    EXPECT(twice(meter.limit) == 80 && twice(counts[0]) == 14 && step(21) == 42);
    EXPECT(meter.limit == 40 && watched->limit == 40);
    EXPECT(counted[0] == 7);
    return NULL;
}
