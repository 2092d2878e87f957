#include "scenario.h"

const char *greeting = "hello from version 2";
const char *farewell = "bye from version 2";
const char *const banner = "banner of version 2";
STATE const char *shown;
STATE volatile int filled;

void fill(void)
{
    farewell = "set at run time";
    shown = greeting;
    filled = 1;
}

const char *check(void)
{
    EXPECT(filled);
    EXPECT(strcmp(greeting, "hello from version 2") == 0);
    EXPECT(strcmp(farewell, "set at run time") == 0);
    EXPECT(strcmp(banner, "banner of version 2") == 0);
    EXPECT(shown == greeting);
    return NULL;
}
