#define SCENARIO_OWN_MAIN
#include "scenario.h"

#include "instar.h"

/* It rests in the main loop nearly always; only what it says itself is a moment at which `half` is whole. */
STATE int half, whole;

static NOINLINE bool wait_for_tests(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    half = 1;
    return poll(&input, 1, 400) <= 0 || scenario_read();
}

static INSTAR_UPDATE_POINT int rest(void)
{
    half = 0;
    return poll(NULL, 0, 5);
}

void fill(void)
{
    whole = 4711;
}

const char *check(void)
{
    EXPECT(whole == 4711);
    return NULL;
}

int main(void)
{
    scenario_ready();
    while (wait_for_tests())
        rest();
    return 0;
}
