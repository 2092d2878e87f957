#include "scenario.h"

typedef int method(int);

struct event {
    int number;
    method *call;
};

STATE struct event *event;
STATE method *table[2];

static NOINLINE int twice(int x, int y)
{
    return 2 * x + y;
}

static NOINLINE int thrice(long x)
{
    return (int)(3 * x);
}

STATE int (*other)(int, int) = twice;
STATE int (*another)(long) = thrice;

void fill(void)
{
    event = calloc(1, sizeof *event);
    event->number++;
}

const char *check(void)
{
    EXPECT(event->number == 1);
    EXPECT(other(2, 3) == 7 && another(1) == 3);
    return NULL;
}
