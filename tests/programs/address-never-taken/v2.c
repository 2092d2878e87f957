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
STATE bool own; /* this version cannot make the pointers itself */

static NOINLINE int twice(int x)
{
    return 2 * x;
}

void fill(void)
{
    own = true;
    meter.level++;
    counts[0] = 7;
}

const char *check(void)
{
    EXPECT(twice(meter.limit) == 80 && twice(counts[0]) == 14 && meter.limit == 40);
    EXPECT(own || (step(21) == 42 && watched->limit == 40 && counted[0] == 7));
    return NULL;
}
