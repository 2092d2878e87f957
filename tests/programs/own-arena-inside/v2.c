#include "scenario.h"

#include <sys/mman.h>

struct leaf {
    long age;
    int value;
    int twice;
};

struct branch {
    struct branch *next;
    struct leaf *leaf;
    long number;
};

enum { BRANCHES = 3000, SIZE = 1 << 20 };

STATE char *arena, *used;
STATE struct branch *branches;

static void *take(size_t size)
{
    void *found = used;
    used += size;
    return found;
}

void fill(void)
{
    arena = used = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arena == MAP_FAILED)
        abort();
    used += 40;
    for (int i = 0; i < BRANCHES; i++) {
        struct branch *branch = take(sizeof *branch);
        branch->number = i;
        branch->next = branches;
        if (i % 1000 == 0) {
            branch->leaf = take(sizeof *branch->leaf);
            branch->leaf->value = i;
            branch->leaf->twice = 2 * i;
        }
        branches = branch;
    }
}

const char *check(void)
{
    long number = BRANCHES;
    for (struct branch *branch = branches; branch; branch = branch->next) {
        EXPECT(branch->number == --number);
        EXPECT(!branch->leaf || (branch->leaf->value == number && branch->leaf->twice == 2 * number));
    }
    EXPECT(number == 0);
    return NULL;
}
