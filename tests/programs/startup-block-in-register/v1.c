#define SCENARIO_OWN_MAIN
#include "scenario.h"

struct scratch {
    int used;
    char text[60];
};

STATE struct scratch *scratch;
STATE volatile int agreed;

void fill(void)
{
    scratch->used = 5;
    strcpy(scratch->text, "in the scratch block");
}

const char *check(void)
{
    EXPECT(scratch->used == 5 && strcmp(scratch->text, "in the scratch block") == 0);
    EXPECT(agreed);
    return NULL;
}

int main(int argc, char **argv)
{
    struct scratch *mine = calloc((size_t)argc, sizeof *mine);

    scratch = mine;
    scenario_ready();
    while (scenario_turn())
        agreed = mine == scratch && mine->used == scratch->used && argv[0] != NULL;
    return agreed ? 0 : 1;
}
