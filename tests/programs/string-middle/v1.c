#include "scenario.h"

STATE const char path[] = "/usr/share/instar/motd";
STATE const char *base, *suffix, *end, *tail;

void fill(void)
{
    const char *literal = "archive.tar.gz";
    base = strrchr(path, '/') + 1;
    suffix = strchr(literal, '.');
    end = literal + strlen(literal);
    tail = "a text with a tail" + 12;
}

const char *check(void)
{
    EXPECT(base == path + 18 && strcmp(base, "motd") == 0);
    EXPECT(suffix && strcmp(suffix, ".tar.gz") == 0);
    EXPECT(end == suffix + 7 && *end == '\0');
    EXPECT(strcmp(tail, "a tail") == 0);
    return NULL;
}
