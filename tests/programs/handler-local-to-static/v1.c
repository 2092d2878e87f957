#define SCENARIO_OWN_MAIN
#include "scenario.h"

STATE long *counted;

void fill(void)
{
    *counted = 17;
}

const char *check(void)
{
    EXPECT(*counted == 17);
    return NULL;
}

int main(void)
{
    long count = 0;

    counted = &count;
    scenario_loop();
    return count > 100;
}
