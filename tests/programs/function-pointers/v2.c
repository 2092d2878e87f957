/* The functions are elsewhere, and the order of their definitions has changed. */
#include "scenario.h"

typedef int operation(int, int);

STATE operation *current;

static int subtract(int a, int b)
{
    return -(b - a);
}

static int multiply(int a, int b)
{
    return a * b;
}

static int add(int a, int b)
{
    return b + a;
}

STATE operation *table[] = {add, NULL, subtract, multiply};

struct plug {
    operation *call;
    long uses;
    const char *name;
};

STATE struct plug *plug;

void fill(void)
{
    current = add;
    table[1] = subtract;
    plug = malloc(sizeof *plug);
    *plug = (struct plug){subtract, 0, "plug"};
}

const char *check(void)
{
    EXPECT(current == add && current(20, 22) == 42);
    EXPECT(table[0] == add && table[1] == subtract && table[2] == subtract && table[1](9, 4) == 5);
    EXPECT(plug && plug->call == subtract && plug->call(9, 4) == 5);
    return NULL;
}
