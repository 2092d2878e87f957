/* Counts the signals that it gets: `check` wants as many SIGUSR1 as `fill` was called after the first time. */
#define SCENARIO_OWN_MAIN
#include "scenario.h"
#include <signal.h>

struct item {
    int id;
    struct item *next;
};

STATE struct item *items;
STATE int fills;
STATE volatile sig_atomic_t signals;

static void count(int number)
{
    (void)number;
    signals++;
}

void fill(void)
{
    for (int i = 0; i < 1000; i++) {
        struct item *it = calloc(1, sizeof *it);
        it->id = i;
        it->next = items;
        items = it;
    }
    fills++;
}

const char *check(void)
{
    int i = fills * 1000;
    for (struct item *it = items; it; it = it->next)
        EXPECT(it->id == --i % 1000);
    EXPECT(i == 0);
    EXPECT(fills > 0 && signals == fills - 1);
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};

    sigaction(SIGUSR1, &action, NULL);
    scenario_loop();
    return 0;
}
