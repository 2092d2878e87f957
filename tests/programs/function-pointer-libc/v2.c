#include "scenario.h"

#include <ctype.h>

struct codec {
    long calls;
    int (*convert)(int);
    size_t (*measure)(const char *);
    void (*release)(void *);
};

STATE struct codec *codec;
STATE int (*compare)(const char *, const char *) = strcmp;
STATE char ***environment;

void fill(void)
{
    codec = calloc(1, sizeof *codec);
    codec->convert = toupper;
    codec->measure = strlen;
    codec->release = free;
    compare = strcasecmp;
    environment = &environ;
}

const char *check(void)
{
    EXPECT(codec && codec->convert == toupper && codec->convert('a') == 'A');
    EXPECT(codec->measure("four") == 4 && codec->release == free);
    codec->release(malloc(10));
    EXPECT(compare == strcasecmp && compare("ABC", "abc") == 0);
    EXPECT(environment == &environ);
    return NULL;
}
