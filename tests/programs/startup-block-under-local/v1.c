#define SCENARIO_OWN_MAIN
#include "scenario.h"

struct loop {
    int turns;
    int *buffer;
};

STATE struct loop *seen;
STATE volatile int wanted, agreed;

void fill(void)
{
    wanted = 33;
}

const char *check(void)
{
    EXPECT(seen->buffer[3] == 33 && seen->turns > 0);
    EXPECT(agreed);
    return NULL;
}

static NOINLINE bool turn(struct loop *loop)
{
    bool more = scenario_turn();

    loop->buffer[3] = wanted;
    agreed = true;
    loop->turns++;
    return more;
}

int main(int argc, char **argv)
{
    struct loop *loop = calloc((size_t)argc, sizeof *loop);

    loop->buffer = calloc(10, sizeof *loop->buffer);
    scenario_ready();
    while (turn(loop))
        seen = loop;
    return argv[0] != NULL && agreed ? 0 : 1;
}
