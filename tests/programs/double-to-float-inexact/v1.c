#include "scenario.h"

struct rate {
    int currency;
    double rate;
};

STATE struct rate rates[2];

void fill(void)
{
    rates[0] = (struct rate){1, 0.25};
    rates[1] = (struct rate){2, 0.1};
}

const char *check(void)
{
    EXPECT(rates[0].currency == 1 && rates[0].rate == 0.25);
    EXPECT(rates[1].currency == 2 && rates[1].rate == 0.1);
    return NULL;
}
