#include "scenario.h"

#include <sys/mman.h>

enum { PAGE = 4096 };

STATE char *table; /* a page that tells how many there are, then what nobody may write */
#if 2 == 2
STATE long more;
#endif

void fill(void)
{
    void *found = NULL;
    if (posix_memalign(&found, PAGE, 2 * PAGE) != 0)
        abort();
    table = found;
    table[0] = 1;
    strcpy(table + PAGE, "a key");
    if (mprotect(table + PAGE, PAGE, PROT_READ) != 0)
        abort();
}

const char *check(void)
{
    EXPECT(table[0] == 1);
    EXPECT(mprotect(table + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
    EXPECT(strcmp(table + PAGE, "a key") == 0);
    EXPECT(mprotect(table + PAGE, PAGE, PROT_READ) == 0);
    return NULL;
}
