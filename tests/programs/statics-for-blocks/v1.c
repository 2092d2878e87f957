#include "scenario.h"

struct holder {
    int id;
    char *name;
    struct holder *self;
};

static struct holder *holder;

void fill(void)
{
    holder = calloc(1, sizeof *holder);
    holder->id = 5;
    holder->name = strdup("held");
    holder->self = holder;
}

const char *check(void)
{
    EXPECT(holder && holder->id == 5);
    EXPECT(strcmp(holder->name, "held") == 0 && holder->self == holder);
    return NULL;
}
