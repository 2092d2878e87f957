/* A table of chains whose nodes change, beside leaves that do not: something of every kind of state. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHAINS 16
#if VERSION == 2
#define FIFTH "a fifth"
#else
#define FIFTH "one of five" /* the new version has no such string: a copy of it is carried */
#endif

enum state { IDLE, BUSY, DONE };

struct leaf {
    struct leaf *next;
    struct node *owner;
    long weight;
};

struct node {
#if VERSION == 2
    long touched;
    long value;
    long key;
    struct node *next;
    struct node *prev;
    struct leaf *leaf;
    const char *kind;
    long (*rate)(long);
    double share;
    int small;
    char name[24];
#else
    struct node *next;
    struct node *prev;
    long key;
    long value;
    struct leaf *leaf;
    const char *kind;
    long (*rate)(long);
    float share;
    short small;
    char name[16];
    int unused;
#endif
};

struct pair {
    int first, second;
#if VERSION == 2
    int third;
#endif
};

static struct node *chains[CHAINS];
static struct leaf *leaves;
static struct pair *pairs, fixed[8];
static struct node **index_by_key;
static long count, total;
#if VERSION == 2
long own_word = 5;
#endif

static long plain(long x)
{
    return x;
}

static long twice(long x)
{
    return x * 2 + count;
}

static void add(long key)
{
    struct node *node = calloc(1, sizeof *node);
    struct leaf *leaf = calloc(1, sizeof *leaf);
    node->key = key, node->value = 1000 - key, node->small = (short)(key + 1),
    node->share = 0.5F * (float)key;
    node->kind = key % 5 == 3 ? FIFTH : key % 2 ? "odd" : "even", node->rate = key % 3 ? plain : twice;
    snprintf(node->name, 16, "node %ld", key);
    leaf->owner = node, leaf->weight = key * 7 + 1, leaf->next = leaves, leaves = leaf;
    node->leaf = leaf, node->next = chains[key % CHAINS];
    if (node->next)
        node->next->prev = node;
    chains[key % CHAINS] = node;
    index_by_key[key] = node;
    count++;
    total += key;
}

static void fill(void)
{
    index_by_key = calloc(256, sizeof *index_by_key);
    pairs = calloc(12, sizeof *pairs);
    for (int i = 0; i < 12; i++)
        pairs[i].first = i + 1, pairs[i].second = 100 - i;
    for (int i = 0; i < 8; i++)
        fixed[i].first = 50 + i, fixed[i].second = 70 + i;
    for (long key = 0; key < 200; key++)
        add(key);
}

static long sum(void)
{
    long result = total * 3 + count;
    for (int i = 0; i < CHAINS; i++)
        for (struct node *node = chains[i]; node; node = node->next)
            result = result * 31 + node->key * 5 + node->value + node->small + (long)(node->share * 2) +
                     (long)strlen(node->kind) + node->rate(node->key) + node->leaf->weight +
                     (node->leaf->owner == node) + (node->prev ? node->prev->key : 3) +
                     (index_by_key[node->key] == node) + node->name[5];
    for (struct leaf *leaf = leaves; leaf; leaf = leaf->next)
        result = result * 17 + leaf->owner->key;
    for (int i = 0; i < 12; i++)
        result = result * 13 + pairs[i].first + pairs[i].second * 3;
    for (int i = 0; i < 8; i++)
        result = result * 11 + fixed[i].first + fixed[i].second * 3;
    return result;
}

int main(void)
{
    char line[64];
    fill();
    for (;;) {
        ssize_t size = read(0, line, sizeof line - 1);
        if (size <= 0)
            return 0;
        line[size] = 0;
        if (line[0] == 't')
            chains[0]->value++, chains[0]->small++, chains[0]->name[5]++, fixed[0].second++;
        int length = snprintf(line, sizeof line, "%d %ld\n", VERSION, sum());
        if (write(1, line, (size_t)length) < 0)
            return 1;
    }
}
