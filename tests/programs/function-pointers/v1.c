#include "scenario.h"

typedef int operation(int, int);

static int add(int a, int b)
{
    return a + b;
}

static int subtract(int a, int b)
{
    return a - b;
}

STATE operation *current;
STATE operation *table[] = {add, NULL, subtract};

struct plug {
    const char *name;
    operation *call;
};

STATE struct plug *plug;

void fill(void)
{
    current = add;
    table[1] = subtract;
    plug = malloc(sizeof *plug);
    *plug = (struct plug){"plug", subtract};
}

const char *check(void)
{
    EXPECT(current == add && current(20, 22) == 42);
    EXPECT(table[0] == add && table[1] == subtract && table[2] == subtract && table[1](9, 4) == 5);
    EXPECT(plug && plug->call == subtract && plug->call(9, 4) == 5);
    return NULL;
}
