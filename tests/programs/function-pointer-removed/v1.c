#include "scenario.h"

typedef int handler(void);

static int on_start(void)
{
    return 1;
}

static int on_pause(void)
{
    return 2;
}

STATE handler *handlers[3];

void fill(void)
{
    handlers[0] = on_start;
    handlers[1] = on_pause;
}

const char *check(void)
{
    EXPECT(handlers[0] == on_start && handlers[0]() == 1);
    EXPECT(handlers[1] == on_pause && handlers[1]() == 2);
    return NULL;
}
