#define SCENARIO_OWN_MAIN
#include "scenario.h"

STATE long *counted;
STATE long count;

void fill(void)
{
    count = 17;
}

const char *check(void)
{
    EXPECT(count == 17 && counted == &count);
    return NULL;
}

int main(void)
{
    counted = &count;
    scenario_loop();
    return count > 100;
}
