#define SCENARIO_OWN_MAIN
#include "scenario.h"
#include "rest.h"

int main(void)
{
    int *volatile copies[2] = {NULL, NULL};

    table = calloc((size_t)size, sizeof *table);
    copies[0] = table;
    scenario_ready();
    while (scenario_turn()) {
        copies[0] = table;
        agreed = 1;
    }
    return agreed ? 0 : 1;
}
