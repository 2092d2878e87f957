#include "scenario.h"

struct command {
    const char *name;
    int (*run)(int);
    int flags;
};

static NOINLINE int same(int value)
{
    return value;
}

static NOINLINE int add(int value)
{
    return value + 1;
}

static NOINLINE int negate(int value)
{
    return -value;
}

STATE struct command commands[] = {
    {"same", same, 4},
    {"add", add, 1},
    {"negate", negate, 2},
    {NULL, NULL, 0},
};
STATE struct command *chosen;

struct module {
    const char *name;
    unsigned index;
};

STATE struct module core = {"core", 0}, events = {"events", 0}, log_ = {"log", 0}, http = {"http", 0},
                    mail = {"mail", 0}, count = {"count", 0};
STATE struct module *modules[] = {&core, &count, &events, &log_, &http, &mail, NULL};
STATE void **settings; /* of each module, by its index */
STATE long values[6] = {1};

void fill(void)
{
    settings = calloc(6, sizeof *settings);
    for (unsigned i = 0; modules[i]; i++) {
        modules[i]->index = i;
        settings[i] = &values[i];
        values[i] = 10 * (long)i;
    }
    chosen = &commands[2];
}

const char *check(void)
{
    EXPECT(chosen && strcmp(chosen->name, "negate") == 0 && chosen->run(5) == -5 && chosen->flags == 2);
    EXPECT(modules[http.index] == &http && settings[http.index] == &values[http.index]);
    EXPECT(values[http.index] == 10 * (long)http.index);
    return NULL;
}
