#include "scenario.h"

struct node {
    int id;
    struct node *next;
    void *data;
};

#define TOMBSTONE ((struct node *)-1)

STATE struct node *table[4];
STATE void *cookies[4];

void fill(void)
{
    table[0] = calloc(1, sizeof *table[0]);
    *table[0] = (struct node){.id = 5, .next = TOMBSTONE, .data = (void *)17};
    table[1] = TOMBSTONE;
    table[3] = (struct node *)1;
    for (int i = 0; i < 4; i++)
        cookies[i] = (void *)(intptr_t)(i * 1000);
    cookies[3] = (void *)(intptr_t)-4095;
}

const char *check(void)
{
    EXPECT(table[0] && table[0]->id == 5 && table[0]->next == TOMBSTONE && table[0]->data == (void *)17);
    EXPECT(table[1] == TOMBSTONE && table[2] == NULL && table[3] == (struct node *)1);
    for (int i = 0; i < 3; i++)
        EXPECT(cookies[i] == (void *)(intptr_t)(i * 1000));
    EXPECT(cookies[3] == (void *)(intptr_t)-4095);
    return NULL;
}
