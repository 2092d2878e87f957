#include "scenario.h"

#include "instar.h"

typedef struct entry *entryptr;
INSTAR_TAGGED_TYPE(1, entryptr);
INSTAR_TAGGED_TYPE(0x0f, entryptr);

struct entry {
    int key;
    long added;

    TAGGED(1, entryptr) next; /* the low bit: deleted; nothing else leads to it */
};

struct table {
    TAGGED(7, uintptr_t) first;
    TAGGED(0x0f, entryptr) buckets[3];
};

STATE struct table table;
STATE TAGGED(7, uintptr_t) newest; /* nothing else leads to its entry */
STATE TAGGED(0x0f, entryptr) rows[3];
static struct entry fallback = {.key = 70}, other = {.key = 71};
STATE TAGGED(1, entryptr) unchanged = (struct entry *)((char *)&other + 1);
STATE TAGGED(1, entryptr) changed = &fallback;

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
    struct entry *alone = malloc(sizeof *alone);
    *alone = (struct entry){.key = 50};
    newest = (uintptr_t)alone | 6;
    rows[0] = (struct entry *)((uintptr_t)head | 7);
    rows[2] = (struct entry *)8;
    changed = (struct entry *)((char *)&other + 1);
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
    EXPECT((newest & 7) == 6 && bare(newest)->key == 50);
    EXPECT(((uintptr_t)rows[0] & 15) == 7 && bare((uintptr_t)rows[0])->key == 5 && !rows[1]);
    EXPECT((uintptr_t)rows[2] == 8 && (uintptr_t)changed == (uintptr_t)&other + 1);
    EXPECT((uintptr_t)unchanged == (uintptr_t)&other + 1);
    return NULL;
}
