#include "scenario.h"

struct node {
    int id;
    int generation;
};

struct table {
    int used;
    uintptr_t tagged;
};

STATE struct table *table;
STATE uint64_t hidden;
STATE unsigned char bytes[16];

static NOINLINE uintptr_t make(int id)
{
    struct node *node = malloc(sizeof *node);
    *node = (struct node){id, 1};
    return (uintptr_t)node;
}

void fill(void)
{
    table = calloc(1, sizeof *table);
    table->used = 1;
    table->tagged = make(31) | 3;
    hidden = make(32) + 4;
    uintptr_t word = make(33);
    memcpy(bytes + 8, &word, sizeof word);
}

const char *check(void)
{
    uintptr_t word;
    EXPECT(table && table->used == 1);
    const struct node *node = (struct node *)(table->tagged & ~(uintptr_t)7);
    EXPECT((table->tagged & 7) == 3 && node->id == 31 && node->generation == 1);
    EXPECT(*(int *)(uintptr_t)hidden == 1 && ((struct node *)(uintptr_t)(hidden - 4))->id == 32);
    memcpy(&word, bytes + 8, sizeof word);
    EXPECT(((struct node *)word)->id == 33);
    return NULL;
}
