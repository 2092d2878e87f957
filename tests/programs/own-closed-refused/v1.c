#include "scenario.h"

#include <sys/mman.h>

enum { PAGE = 4096 };

STATE char *keys; /* a page that tells how many there are, then the keys, closed unless they are needed */

void fill(void)
{
    keys = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (keys == MAP_FAILED)
        abort();
    keys[0] = 1;
    strcpy(keys + PAGE, "a key");
    mprotect(keys + PAGE, 2 * PAGE, PROT_NONE);
}

const char *check(void)
{
    EXPECT(keys[0] == 1);
    EXPECT(mprotect(keys + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
    EXPECT(strcmp(keys + PAGE, "a key") == 0);
    EXPECT(mprotect(keys + PAGE, 2 * PAGE, PROT_NONE) == 0);
    return NULL;
}
