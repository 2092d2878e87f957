#include "scenario.h"

struct context {
    int depth;
    void *current;
};

static __thread struct context context;
__thread int errors = 5;
static __thread int untouched = 9;
static struct context *where;
static int *counter;

void fill(void)
{
    context = (struct context){.depth = 3, .current = malloc(10)};
    strcpy(context.current, "current");
    errors = 8;
    where = &context;
    counter = &errors;
}

const char *check(void)
{
    EXPECT(where == &context && context.depth == 3 && strcmp(context.current, "current") == 0);
    EXPECT(counter == &errors && errors == 8);
    EXPECT(untouched == 9);
    return NULL;
}
