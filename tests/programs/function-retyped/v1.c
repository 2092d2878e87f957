#include "scenario.h"

typedef int method(int);

struct event {
    int number;
    method *call;
};

STATE struct event *event;
STATE method *table[2];

static NOINLINE int twice(int x)
{
    return 2 * x;
}

static NOINLINE int thrice(int x)
{
    return 3 * x;
}

void fill(void)
{
    event = malloc(sizeof *event);
    *event = (struct event){1, twice};
    table[1] = thrice;
}

const char *check(void)
{
    EXPECT(event->call == twice && event->call(21) == 42);
    EXPECT(table[1] == thrice && table[1](5) == 15);
    return NULL;
}
