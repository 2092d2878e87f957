#include "scenario.h"

#include <fcntl.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

STATE char *table; /* a page that tells how many there are, then what nobody may write */
#if 1 == 2
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
    if (mprotect(table + PAGE, PAGE, PROT_NONE) != 0)
        abort();
}

const char *check(void)
{
    int zero = open("/dev/zero", O_RDONLY);
    EXPECT(zero >= 0);
    EXPECT(table[0] == 1);
    EXPECT(read(zero, table + PAGE, 1) == -1);
    EXPECT(close(zero) == 0);
    EXPECT(mprotect(table + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
    EXPECT(strcmp(table + PAGE, "a key") == 0);
    EXPECT(mprotect(table + PAGE, PAGE, PROT_NONE) == 0);
    return NULL;
}
