#define SCENARIO_BUSY
#include "scenario.h"

#include <sys/mman.h>

struct node {
    struct node *next;
    struct arena *owner;
    const char *name;
    int id;
};

struct arena {
    char *start, *used, *limit, *end;
};

enum { NODES = 2000, WORDS = 5000, PAGES = 200, PAGE = 4096 };

STATE struct arena arena;
STATE struct node *nodes;
STATE int *table, *sparse;

static void *take(size_t size)
{
    void *found = arena.used;
    arena.used += size;
    while (arena.used > arena.limit) {
        if (mprotect(arena.limit, PAGE, PROT_READ | PROT_WRITE) != 0)
            abort();
        arena.limit += PAGE;
    }
    return found;
}

static void add(int id)
{
    struct node *node = take(sizeof *node);
    node->next = nodes;
    node->owner = &arena;
    node->name = id % 2 ? "odd" : "even";
    node->id = id;
    nodes = node;
}

static void *map(size_t size, int protection)
{
    void *found = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED)
        abort();
    return found;
}

void fill(void)
{
    arena.start = arena.used = arena.limit = map(PAGES * PAGE, PROT_NONE);
    arena.end = arena.start + PAGES * PAGE;
    for (int i = 0; i < NODES; i++)
        add(i);
    table = map(WORDS * sizeof *table, PROT_READ | PROT_WRITE);
    for (int i = 0; i < WORDS; i++)
        table[i] = i * i;
    mprotect(table, WORDS * sizeof *table, PROT_READ);
    sparse = map((size_t)1 << 28, PROT_READ | PROT_WRITE);
    sparse[50000000] = 42;
}

const char *check(void)
{
    int id = NODES;
    EXPECT(arena.end == arena.start + PAGES * PAGE && arena.limit >= arena.used && arena.limit < arena.end);
    for (struct node *node = nodes; node; node = node->next) {
        if (node->id >= NODES)
            continue;
        EXPECT(node->owner == &arena && node->id == --id);
        EXPECT(strcmp(node->name, id % 2 ? "odd" : "even") == 0);
    }
    EXPECT(id == 0);
    for (int i = 0; i < WORDS; i++)
        EXPECT(table[i] == i * i);
    EXPECT(sparse[50000000] == 42 && sparse[100] == 0);
    return NULL;
}

/* The arena grows on into its reserve; the table can be opened again. */
const char *busy(void)
{
    for (int i = 0; i < 200; i++)
        add(NODES + i);
    EXPECT(mprotect(table, WORDS * sizeof *table, PROT_READ | PROT_WRITE) == 0);
    table[0] = 0;
    EXPECT(mprotect(table, WORDS * sizeof *table, PROT_READ) == 0);
    sparse[7]++;
    return NULL;
}
