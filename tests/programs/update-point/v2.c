#define SCENARIO_OWN_MAIN
#include "scenario.h"

#include "instar.h"

STATE int half, whole;
STATE int found = -1;

static void note(void)
{
    if (whole && found < 0)
        found = half;
}

static NOINLINE bool wait_for_tests(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    half = 1;
    int result = poll(&input, 1, 400);

    note();
    return result <= 0 || scenario_read();
}

static INSTAR_UPDATE_POINT int rest(void)
{
    half = 0;
    int result = poll(NULL, 0, 5);

    note();
    return result;
}

void fill(void)
{
    whole = 4711;
}

const char *check(void)
{
    EXPECT(whole == 4711 && found == 0);
    return NULL;
}

int main(void)
{
    scenario_ready();
    while (wait_for_tests())
        rest();
    return 0;
}
