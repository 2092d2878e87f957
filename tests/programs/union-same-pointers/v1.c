#include "scenario.h"
#include <signal.h>

struct item {
    int number;
};

union lead {
    struct item *first;
    struct item *second;
};

STATE struct sigaction action;
STATE union lead lead;
STATE int taken;

static NOINLINE void note(int number)
{
    taken = number;
}

void fill(void)
{
    struct item *item = calloc(1, sizeof *item);
    item->number = 7;
    lead.second = item;
    action.sa_handler = note;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGUSR2);
}

const char *check(void)
{
    EXPECT(lead.first && lead.first->number == 7);
    EXPECT(action.sa_handler == note);
    EXPECT(sigismember(&action.sa_mask, SIGUSR2) == 1 && sigismember(&action.sa_mask, SIGUSR1) == 0);
    taken = 0;
    action.sa_handler(SIGUSR1);
    EXPECT(taken == SIGUSR1);
    return NULL;
}
