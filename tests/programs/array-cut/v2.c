#include "scenario.h"

struct host {
    char name[8];
    int ports[2];
};

STATE struct host *host;
STATE long totals[3];

void fill(void)
{
    host = calloc(1, sizeof *host);
    strcpy(host->name, "abcdefg");
    host->ports[1] = 443;
    for (int i = 0; i < 3; i++)
        totals[i] = i + 1;
}

const char *check(void)
{
    EXPECT(host && strcmp(host->name, "abcdefg") == 0 && host->ports[0] == 0 && host->ports[1] == 443);
    for (int i = 0; i < 3; i++)
        EXPECT(totals[i] == i + 1);
    return NULL;
}
