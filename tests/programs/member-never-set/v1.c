#include "scenario.h"

enum { BLOCKS = 6 };

struct node {
    struct node *sibling; /* never set in the last node */
    int value;
    char name[40];
};

STATE struct node *nodes;

void fill(void)
{
    void *volatile spare[BLOCKS]; /* a compiler would leave them out */

    for (int i = 0; i < BLOCKS; i++)
        spare[i] = malloc(sizeof *nodes);
    for (int i = 0; i < BLOCKS; i++)
        free(spare[i]);
    nodes = malloc(sizeof *nodes);
    nodes->value = 5;
    strcpy(nodes->name, "the only one");
}

const char *check(void)
{
    EXPECT(nodes->sibling != NULL && nodes->value == 5 && strcmp(nodes->name, "the only one") == 0);
    return NULL;
}
