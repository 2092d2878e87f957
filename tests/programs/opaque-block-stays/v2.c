#include "scenario.h"

struct node {
    int id;
    struct node *next;
};

STATE struct node *nodes[3];
STATE void *pool;
STATE int fresh[10];

void fill(void)
{
    for (int i = 0; i < 3; i++) {
        nodes[i] = calloc(1, sizeof *nodes[i]);
        nodes[i]->id = i;
    }
    fresh[1]++;
    uintptr_t *words = pool = calloc(20, sizeof *words);
    for (int i = 0; i < 3; i++)
        words[5 + i] = ((uintptr_t)nodes[i] + (uintptr_t)i);
}

const char *check(void)
{
    uintptr_t *words = pool;
    EXPECT(words != NULL);
    for (int i = 0; i < 3; i++)
        EXPECT(nodes[i]->id == i && words[5 + i] == ((uintptr_t)nodes[i] + (uintptr_t)i));
    return NULL;
}
