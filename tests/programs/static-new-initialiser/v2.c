#include "scenario.h"

struct limits {
    int low, high;
};

int untouched = 20;
int changed = 50;
STATE struct limits whole = {10, 20};
STATE struct limits half = {30, 40};
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
    EXPECT(filled && untouched == 20 && changed == 6);
    EXPECT(whole_low()[0] == 10 && whole_low()[1] == 20);
    EXPECT(half_low()[0] == 33);
    return NULL;
}
