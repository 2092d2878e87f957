#include "scenario.h"

struct topic {
    const char *name;
    const char *help;
};

STATE struct topic *topic;
STATE const char *mode = "automatic";
STATE const char *messages[3];

void fill(void)
{
    topic = malloc(sizeof *topic);
    *topic = (struct topic){"weather", "what it is like outside"};
    mode = "manual";
    messages[0] = "first message";
    messages[1] = "only the old version has this one";
    messages[2] = topic->name;
}

const char *check(void)
{
    EXPECT(topic && strcmp(topic->name, "weather") == 0);
    EXPECT(strcmp(topic->help, "what it is like outside") == 0);
    EXPECT(strcmp(mode, "manual") == 0);
    EXPECT(strcmp(messages[0], "first message") == 0);
    EXPECT(strncmp(messages[1], "only the ", 9) == 0 && strstr(messages[1], " version has this one"));
    EXPECT(messages[2] == topic->name);
    return NULL;
}
