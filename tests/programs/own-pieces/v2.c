#include "scenario.h"

#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 12 };

STATE char *region; /* [0, 4) open, [4, 6) never opened, [6, 8) open, [8, 12) only to be read */
STATE char *beside; /* an object of its own behind a guard that both have */
STATE long counters[20];
STATE char *secret; /* not for children, not for core dumps */

static char *map(size_t pages, int protection)
{
    char *found = mmap(NULL, pages * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED)
        abort();
    return found;
}

void fill(void)
{
    region = map(PAGES + 4, PROT_NONE);
    if (mprotect(region, 4 * PAGE, PROT_READ | PROT_WRITE) ||
        mprotect(region + 6 * PAGE, 6 * PAGE, PROT_READ | PROT_WRITE) ||
        mprotect(region + 14 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE))
        abort();
    memset(region, 1, 4 * PAGE);
    memset(region + 6 * PAGE, 2, 6 * PAGE);
    mprotect(region + 8 * PAGE, 4 * PAGE, PROT_READ);
    beside = region + 14 * PAGE;
    strcpy(beside, "beside");
    secret = map(2, PROT_READ | PROT_WRITE);
    strcpy(secret, "seed");
    madvise(secret, PAGE, MADV_WIPEONFORK);
    madvise(secret, PAGE, MADV_DONTDUMP);
}

/* Whether the kernel has these flags for the mapping that begins there. */
static bool has_flags(const void *start, const char *first, const char *second)
{
    char line[512], wanted[32];
    bool here = false, found = false;
    FILE *file = fopen("/proc/self/smaps", "r");
    snprintf(wanted, sizeof wanted, "%lx-", (unsigned long)start);
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, wanted, strlen(wanted)) == 0)
            here = true;
        else if (here && strncmp(line, "VmFlags:", 8) == 0) {
            found = strstr(line, first) && strstr(line, second);
            break;
        }
    }
    if (file)
        fclose(file);
    return found;
}

const char *check(void)
{
    for (int i = 0; i < 4 * PAGE; i++)
        EXPECT(region[i] == 1);
    for (int i = 6 * PAGE; i < PAGES * PAGE; i++)
        EXPECT(region[i] == 2);
    EXPECT(mprotect(region + 4 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
    EXPECT(region[4 * PAGE] == 0);
    EXPECT(madvise(region + 4 * PAGE, 2 * PAGE, MADV_DONTNEED) == 0);
    EXPECT(mprotect(region + 4 * PAGE, 2 * PAGE, PROT_NONE) == 0);
    EXPECT(strcmp(beside, "beside") == 0 && strcmp(secret, "seed") == 0);
    EXPECT(has_flags(secret, " wf", " dd"));
    EXPECT(!has_flags(secret + PAGE, " wf", ""));
    return NULL;
}
