#include "scenario.h"

struct node {
    struct node *right, *left;
    char color;
    int key;
    struct node *parent;
};

STATE struct node *root;

static void insert(int key)
{
    struct node **place = &root, *parent = NULL, *fresh = calloc(1, sizeof *fresh);
    while (*place) {
        parent = *place;
        place = key < parent->key ? &parent->left : &parent->right;
    }
    fresh->key = key;
    fresh->parent = parent;
    *place = fresh;
}

static int count_ordered(const struct node *n, const struct node *parent, int low, int high)
{
    if (n == NULL)
        return 0;
    if (n->parent != parent || n->key < low || n->key >= high)
        return -1000000;
    return 1 + count_ordered(n->left, n, low, n->key) + count_ordered(n->right, n, n->key, high);
}

void fill(void)
{
    uint32_t seed = 1;
    for (int i = 0; i < 500; i++)
        insert((int)(scenario_random(&seed) % 100000));
}

const char *check(void)
{
    EXPECT(count_ordered(root, NULL, 0, 100000) == 500);
    return NULL;
}
