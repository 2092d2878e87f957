#include "scenario.h"

struct limits {
    int low, high;
};

int untouched = 10;
int changed = 5;
STATE struct limits whole = {1, 2};
STATE struct limits half = {3, 4};
STATE volatile int filled;

NOINLINE int *whole_low(void)
{
    return &whole.low;
}

NOINLINE int *half_low(void)
{
    return &half.low;
}

void fill(void)
{
    changed = 6;
    *half_low() = 33;
    filled = 1;
}

const char *check(void)
{
    EXPECT(filled && untouched == 10 && changed == 6);
    EXPECT(whole_low()[0] == 1 && whole_low()[1] == 2);
    EXPECT(half_low()[0] == 33);
    return NULL;
}
