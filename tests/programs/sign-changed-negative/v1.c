#include "scenario.h"

struct meter {
    long reading;
    int drift;
};

STATE struct meter meter;

void fill(void)
{
    meter = (struct meter){7, -1};
}

const char *check(void)
{
    EXPECT(meter.reading == 7 && meter.drift == -1);
    return NULL;
}
