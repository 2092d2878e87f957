/* Signed integers are extended by their sign, unsigned ones by zeros. */
#include "scenario.h"

struct counters {
    unsigned small;
    long balance;
    uint64_t hits;
    int64_t change;
};

STATE struct counters *counters;
STATE uint64_t total;
STATE long offsets[4];

void fill(void)
{
    counters = malloc(sizeof *counters);
    *counters = (struct counters){200, -12345, 4000000000u, -2000000000};
    total = 3123456789u;
    for (int i = 0; i < 4; i++)
        offsets[i] = -10000 * i;
}

const char *check(void)
{
    EXPECT(counters && counters->small == 200 && counters->balance == -12345);
    EXPECT(counters->hits == 4000000000u && counters->change == -2000000000);
    EXPECT(total == 3123456789u);
    for (int i = 0; i < 4; i++)
        EXPECT(offsets[i] == -10000 * i);
    return NULL;
}
