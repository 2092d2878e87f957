#include "scenario.h"

enum { COUNT = 50000 };

struct node {
    long milliseconds;
    struct node *next;
};

struct leaf {
    int degrees;
    struct leaf *next;
};

STATE struct node *nodes;
STATE struct leaf *leaves;

void fill(void)
{
    for (int i = 0; i < COUNT; i++) {
        struct node *n = malloc(sizeof *n);
        *n = (struct node){i * 1000, nodes};
        nodes = n;
        struct leaf *l = malloc(sizeof *l);
        *l = (struct leaf){(i - 20) * 9 / 5 + 32, leaves};
        leaves = l;
    }
}

static int degrees(int x)
{
    return x * 9 / 5 + 32;
}

const char *check(void)
{
    int i = COUNT - 1;
    for (struct node *n = nodes; n; n = n->next, i--)
        EXPECT(n->milliseconds == i * 1000);
    EXPECT(i == -1);
    i = COUNT - 1;
    for (struct leaf *l = leaves; l; l = l->next, i--)
        if (i >= 20)
            EXPECT(l->degrees == degrees(i - 20));
    EXPECT(i == -1);
    return NULL;
}
