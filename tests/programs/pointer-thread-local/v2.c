#include "scenario.h"

struct context {
    long entered;
    int depth;
    void *current;
};

STATE __thread char scratch[200];
STATE __thread struct context context;
__thread int errors = 5;
STATE __thread int untouched = 9;
STATE struct context *where;
STATE int *counter;

void fill(void)
{
    context = (struct context){.depth = 3, .current = malloc(10)};
    strcpy(context.current, "current");
    errors = 8;
    scratch[0] = 0;
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
