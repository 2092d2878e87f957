#include "scenario.h"

STATE char *zone, *mode;

STATE bool filled;
STATE int fresh;

static bool is(const char *name, const char *value)
{
    const char *now = getenv(name);
    return value && now ? strcmp(now, value) == 0 : value == now;
}

void fill(void)
{
    setenv("SCENARIO_ZONE", "UTC+1", 1);
    mode = strdup("SCENARIO_MODE=quick");
    putenv(mode);
    unsetenv("SCENARIO_GONE");
    zone = getenv("SCENARIO_ZONE");
    filled = true;
}

const char *check(void)
{
    EXPECT(filled && is("SCENARIO_ZONE", "UTC+1"));
    EXPECT(is("SCENARIO_MODE", "quick") && is("SCENARIO_GONE", NULL) && is("SCENARIO_KEPT", "yes"));
    EXPECT(zone && getenv("PATH"));
    setenv("SCENARIO_MORE", "1", 1);
    EXPECT(is("SCENARIO_MORE", "1") && is("SCENARIO_MODE", "quick"));
    unsetenv("SCENARIO_MORE");
    return NULL;
}
