#include <stddef.h>

typedef int method(int);
extern method *other_method(void);

static int step(int x)
{
    return x + 100;
}

method *other_method(void)
{
    return step;
}
