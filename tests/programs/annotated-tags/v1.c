#include "scenario.h"

#include "instar.h"

typedef struct entry *entryptr;
INSTAR_TAGGED_TYPE(1, entryptr);
INSTAR_TAGGED_TYPE(0x0f, entryptr);

struct entry {
    int key;

    TAGGED(1, entryptr) next; /* the low bit: deleted; nothing else leads to it */
};

struct table {
    TAGGED(7, uintptr_t) first;
    TAGGED(0x0f, entryptr) buckets[3];
};

STATE struct table table;

static struct entry *bare(uintptr_t word)
{
    return (struct entry *)(word & ~(uintptr_t)15);
}

void fill(void)
{
    struct entry *head = NULL;
    for (int i = 0; i < 6; i++) {
        struct entry *e = malloc(sizeof *e);
        *e = (struct entry){.key = i, .next = (struct entry *)((uintptr_t)head | (i & 1))};
        head = e;
    }
    table.first = (uintptr_t)head | 5;
    table.buckets[0] = (struct entry *)((uintptr_t)head | 9);
    table.buckets[1] = (struct entry *)3;
    table.buckets[2] = bare((uintptr_t)head->next);
}

const char *check(void)
{
    int i = 5;
    EXPECT((table.first & 7) == 5 && bare(table.first)->key == 5);
    EXPECT(((uintptr_t)table.buckets[0] & 15) == 9 && bare((uintptr_t)table.buckets[0])->key == 5);
    EXPECT((uintptr_t)table.buckets[1] == 3 && table.buckets[2]->key == 4);
    for (struct entry *e = bare(table.first); e; e = bare((uintptr_t)e->next), i--)
        EXPECT(e->key == i && ((uintptr_t)e->next & 15) == (uintptr_t)(i & 1));
    EXPECT(i == -1);
    return NULL;
}
