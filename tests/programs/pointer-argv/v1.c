#define SCENARIO_OWN_MAIN
#include "scenario.h"

STATE char **arguments;
STATE const char *config, *value, *home, *last;
STATE int count;
STATE bool filled;

void fill(void)
{
    config = arguments[2];
    value = strchr(arguments[3], '=') + 1;
    home = getenv("SCENARIO_HOME");
    last = arguments[count - 1];
    filled = true;
}

const char *check(void)
{
    EXPECT(filled && count == 5);
    EXPECT(config == arguments[2] && strcmp(config, "/etc/scenario.conf") == 0);
    EXPECT(strcmp(value, "left=right") == 0);
    EXPECT(home == getenv("SCENARIO_HOME") && strcmp(home, "/srv/scenario") == 0);
    EXPECT(last == arguments[4] && strcmp(last, "rest") == 0 && arguments[5] == NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    arguments = argv;
    count = argc;
    scenario_loop();
    return 0;
}
