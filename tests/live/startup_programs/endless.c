/* Computes for ever. */
#include "scenario.h"

static volatile unsigned long sum;

__attribute__((noinline)) static void work(void)
{
    for (;;)
        sum++;
}

int main(void)
{
    say("ready");
    work();
}
