#include "scenario.h"

struct node {
    struct node *other;
    long stamp;
    unsigned char values[7];
    unsigned char count;
};

STATE struct node *head;

void fill(void)
{
    head = calloc(2, sizeof *head);
    head[0].other = &head[1];
    head[1].count = 200;
    head[1].values[6] = 9;
}

const char *check(void)
{
    EXPECT(head[0].other == &head[1] && head[1].count == 200 && head[1].values[6] == 9);
    return NULL;
}
