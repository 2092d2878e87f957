#include "scenario.h"

extern char **environ;

struct home {
    long visits;
    const char *name;
};

STATE char **saved;
STATE struct home *home;

void fill(void)
{
    saved = environ;
    home = calloc(1, sizeof *home);
    home->name = getenv("SCENARIO_HOME");
}

const char *check(void)
{
    int found = 0;

    EXPECT(saved && saved == environ && home);
    for (char **word = saved; *word; word++)
        found += strcmp(*word, "SCENARIO_HOME=/srv/scenario") == 0;
    EXPECT(found == 1 && home->name == getenv("SCENARIO_HOME"));
    return NULL;
}
