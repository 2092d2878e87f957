#include "scenario.h"

STATE long counters[20];
STATE char *pool; /* from the system itself, in the middle of malloc's memory */

void fill(void)
{
    char *small = malloc(100);
    pool = sbrk(65536);
    if (pool == (void *)-1 || small == NULL)
        abort();
    strcpy(pool, "pool");
    free(small);
}

const char *check(void)
{
    EXPECT(strcmp(pool, "pool") == 0);
    return NULL;
}
