#define SCENARIO_OWN_MAIN
#include "scenario.h"
#include "rest.h"

STATE int turns;

int main(void)
{
    int *volatile copies[2] = {NULL, NULL};

    table = calloc((size_t)size, sizeof *table);
    copies[0] = table;
    scenario_ready();
    while (scenario_turn()) {
        agreed = copies[0] == table;
        copies[0] = table;
        turns++;
    }
    return agreed ? 0 : 1;
}
