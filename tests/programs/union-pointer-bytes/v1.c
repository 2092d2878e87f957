#include "scenario.h"

struct node {
    int id;
    union {
        struct node *link;
        char bytes[8];
    } u;
};

STATE struct node *nodes[10];

void fill(void)
{
    for (int i = 0; i < 10; i++)
        nodes[i] = calloc(1, sizeof *nodes[i]);
    for (int i = 0; i < 10; i++) {
        nodes[i]->id = i;
        if (i % 2)
            nodes[i]->u.link = nodes[9 - i];
        else
            memcpy(nodes[i]->u.bytes, "bytes \xff", 8);
    }
}

const char *check(void)
{
    for (int i = 0; i < 10; i++) {
        EXPECT(nodes[i] && nodes[i]->id == i);
        EXPECT(i % 2 ? nodes[i]->u.link == nodes[9 - i] : memcmp(nodes[i]->u.bytes, "bytes \xff", 8) == 0);
    }
    return NULL;
}
