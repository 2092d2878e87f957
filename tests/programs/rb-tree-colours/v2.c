#include "scenario.h"

/* An intrusive tree whose parent links carry a colour in their lowest bit. */
struct rb {
    uintptr_t parent_colour;
    struct rb *left, *right;
};

struct entry {
    int key;
    long hits;
    struct rb node;
    char name[12];
};

STATE struct rb *root;
STATE int count;

static struct entry *entry_of(struct rb *node)
{
    return (struct entry *)((char *)node - offsetof(struct entry, node));
}

static NOINLINE void insert(int key)
{
    struct rb **place = &root, *parent = NULL;
    struct entry *entry = calloc(1, sizeof *entry);
    entry->key = key;
    snprintf(entry->name, sizeof entry->name, "key %d", key);
    while (*place) {
        parent = *place;
        place = key < entry_of(parent)->key ? &parent->left : &parent->right;
    }
    entry->node.parent_colour = (uintptr_t)parent | (key & 1);
    *place = &entry->node;
    count++;
}

static NOINLINE int walk(struct rb *node, struct rb *parent)
{
    char name[12];
    if (node == NULL)
        return 0;
    struct entry *entry = entry_of(node);
    snprintf(name, sizeof name, "key %d", entry->key);
    if ((node->parent_colour & ~(uintptr_t)1) != (uintptr_t)parent ||
        (int)(node->parent_colour & 1) != (entry->key & 1) || strcmp(name, entry->name) != 0)
        return -1000;
    return 1 + walk(node->left, node) + walk(node->right, node);
}

void fill(void)
{
    for (int i = 0; i < 60; i++)
        insert(i * 37 % 61);
}

const char *check(void)
{
    EXPECT(walk(root, NULL) == count && count == 60);
    return NULL;
}
