/* Every value still fits, some of them just so. */
#include "scenario.h"

struct limits {
    short low;
    unsigned short high;
    signed char step;
};

STATE struct limits *limits;
STATE int level;

void fill(void)
{
    limits = malloc(sizeof *limits);
    *limits = (struct limits){-32768, 65535, -128};
    level = -2147483647;
}

const char *check(void)
{
    EXPECT(limits && limits->low == -32768 && limits->high == 65535 && limits->step == -128);
    EXPECT(level == -2147483647);
    return NULL;
}
