#include "scenario.h"

#include <sys/mman.h>

struct entry {
    long age;
    int key;
    int value;
};

enum { ENTRIES = 4096 };

STATE struct entry *entries;

void fill(void)
{
    entries = mmap(NULL, ENTRIES * sizeof *entries, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                   -1, 0);
    if (entries == MAP_FAILED)
        abort();
    for (int i = 0; i < ENTRIES; i++)
        entries[i].key = entries[i].value = i;
}

const char *check(void)
{
    for (int i = 0; i < ENTRIES; i++)
        EXPECT(entries[i].key == i && entries[i].value == i);
    return NULL;
}
