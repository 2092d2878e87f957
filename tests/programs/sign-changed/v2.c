#include "scenario.h"

struct gauge {
    unsigned level;
    signed char low;
    int64_t peak;
};

STATE struct gauge *gauge;
STATE short port;
STATE unsigned samples[3];

void fill(void)
{
    gauge = malloc(sizeof *gauge);
    *gauge = (struct gauge){2147483647, 127, INT64_MAX};
    port = 32767;
    for (int i = 0; i < 3; i++)
        samples[i] = 1000000000u + (unsigned)i;
}

const char *check(void)
{
    EXPECT(gauge && gauge->level == 2147483647 && gauge->low == 127 && gauge->peak == INT64_MAX);
    EXPECT(port == 32767);
    for (int i = 0; i < 3; i++)
        EXPECT(samples[i] == 1000000000u + (unsigned)i);
    return NULL;
}
