#include "scenario.h"

static long level;
static int steps[3];

void fill(void)
{
    level = 5;
    steps[1] = -300;
}

const char *check(void)
{
    EXPECT(level == 5);
    EXPECT(steps[0] == 0 && steps[1] == -300 && steps[2] == 0);
    return NULL;
}
