#include "scenario.h"

struct entry {
    int key;
    int added;
    struct entry *next; /* the low bit: deleted */
    struct entry *all;
};

struct box {
    uintptr_t number;
};

STATE struct entry *all;
STATE struct entry *head;
STATE struct box box;

void fill(void)
{
    for (int i = 0; i < 6; i++) {
        struct entry *e = malloc(sizeof *e);
        *e = (struct entry){.key = i, .next = (struct entry *)((uintptr_t)head | (head ? i & 1 : 0)), .all = all};
        head = all = e;
    }
    box.number = (uintptr_t)head;
}

const char *check(void)
{
    int i = 5;
    struct entry *e = head;
    EXPECT(box.number == (uintptr_t)head);
    while (e) {
        uintptr_t word = (uintptr_t)e->next;
        EXPECT(e->key == i && (word & 1) == (i ? i & 1 : 0) && (word & ~(uintptr_t)1) == (uintptr_t)e->all);
        e = e->all;
        i--;
    }
    EXPECT(i == -1);
    return NULL;
}
