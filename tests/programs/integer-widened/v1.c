#include "scenario.h"

struct counters {
    unsigned char small;
    short balance;
    unsigned hits;
    int change;
};

STATE struct counters *counters;
STATE unsigned total;
STATE short offsets[4];

void fill(void)
{
    counters = malloc(sizeof *counters);
    *counters = (struct counters){200, -12345, 4000000000u, -2000000000};
    total = 3123456789u;
    for (int i = 0; i < 4; i++)
        offsets[i] = (short)(-10000 * i);
}

const char *check(void)
{
    EXPECT(counters && counters->small == 200 && counters->balance == -12345);
    EXPECT(counters->hits == 4000000000u && counters->change == -2000000000);
    EXPECT(total == 3123456789u);
    for (int i = 0; i < 4; i++)
        EXPECT(offsets[i] == (short)(-10000 * i));
    return NULL;
}
