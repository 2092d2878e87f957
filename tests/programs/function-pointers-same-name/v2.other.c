#include <stddef.h>

typedef int method(int);
extern method *other_method(void);

static int step(int x)
{
    return x - 900 + 1000;
}

method *other_method(void)
{
    return step;
}
