#include "scenario.h"

typedef int method(int);
extern method *other_method(void);

STATE method *mine, *theirs;

static int step(int x)
{
    return x + 1;
}

void fill(void)
{
    mine = step;
    theirs = other_method();
}

const char *check(void)
{
    EXPECT(mine == step && mine(1) == 2);
    EXPECT(theirs == other_method() && theirs(1) == 101);
    EXPECT(mine != theirs);
    return NULL;
}
