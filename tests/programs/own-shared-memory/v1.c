#define SCENARIO_BUSY
#include "scenario.h"

#include <sys/mman.h>

struct header {
    struct header *self;
    uint64_t count;
    char text[64];
};

enum { SIZE = 3 * 4096 };

STATE struct header *named, *nameless;
STATE int descriptor = -1;

static void begin(struct header *header, const char *text)
{
    if (header == MAP_FAILED)
        abort();
    header->self = header;
    strcpy(header->text, text);
}

void fill(void)
{
    descriptor = memfd_create("scenario", 0);
    if (descriptor < 0 || ftruncate(descriptor, SIZE) != 0)
        abort();
    named = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    nameless = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    begin(named, "named");
    begin(nameless, "nameless");
}

const char *check(void)
{
    uint64_t count = 0;
    EXPECT(named->self == named && strcmp(named->text, "named") == 0);
    EXPECT(nameless->self == nameless && strcmp(nameless->text, "nameless") == 0);
    EXPECT(pread(descriptor, &count, sizeof count, offsetof(struct header, count)) == sizeof count);
    EXPECT(count == named->count && count == nameless->count);
    return NULL;
}

/* What is written through the mapping is in the file: it is still the same memory. */
const char *busy(void)
{
    named->count++;
    nameless->count++;
    return check();
}
