#include "scenario.h"

typedef int handler(void);

static int on_start(void)
{
    return 1;
}

STATE handler *handlers[3];

void fill(void)
{
    handlers[0] = on_start;
}

const char *check(void)
{
    EXPECT(handlers[0] == on_start && handlers[0]() == 1);
    EXPECT(handlers[1] == NULL);
    return NULL;
}
