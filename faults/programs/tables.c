/* Lists, two hash tables, a tree, arrays, cursors, functions and texts: a state in which every word counts.
 *
 * The same source is version 1 and 2: layouts differ, meaning does not. Lines on standard input are obeyed, each
 * is answered by one line:
 *
 *     fill         store many entries             VERSION COUNT
 *     put KEY      store an entry                 VERSION COUNT
 *     del KEY      remove it                      VERSION COUNT
 *     sum          a sum over all of the state    VERSION SUM       the same number in both versions
 *     check        its own view of the state      VERSION ok | VERSION LINE
 *     drain        free it all, build it anew     VERSION SUM
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUCKETS 64
#define ENTRIES 160
#ifndef IN_START
#define IN_START /* a version that fails in its start-up has something here */
#endif
#define NOINLINE __attribute__((noinline))

#if VERSION == 2
enum colour { BLUE, GREEN, RED };
typedef long number;
#else
enum colour { RED, GREEN, BLUE };
typedef int number;
#endif

struct leaf {
    struct leaf *next;
    struct entry *owner;
    long weight;
    unsigned char *text;
};

struct stamp {
    short day;
    number second;
};

struct entry {
#if VERSION == 2
    long touched;
    double share;
    struct entry *chain;
    struct leaf *leaf;
    struct entry *newer, *older;
    enum colour colour;
    unsigned flag : 3, level : 9;
    const char *kind;
    long (*rate)(long);
    struct stamp made[4];
    number key;
    char name[32];
#else
    number key;
    struct entry *chain;
    struct entry *newer, *older;
    struct leaf *leaf;
    const char *kind;
    long (*rate)(long);
    enum colour colour;
    float share;
    unsigned level : 9, flag : 3;
    struct stamp made[3];
    char name[20];
    int unused;
#endif
};

struct node {
    struct node *left, *right;
#if VERSION == 2
    struct node *up;
#endif
    number key;
    struct entry *entry;
};

struct pair {
    number first, second;
};

static struct entry **buckets;
static struct entry *newest, *oldest, *cursor;
static struct leaf *leaves, **last_leaf = &leaves;
static struct node *root;
static struct pair *pairs, fixed[8];
static struct entry *favourites[12];
static char *middle; /* into the name of an entry */
static short *counter;
static long count, total;
static __thread long turns;
static const char *const kinds[] = {"even", "odd", "third", "a kind with a long name"};

static NOINLINE long plain(long x)
{
    return x;
}

static NOINLINE long twice(long x)
{
    return x * 2 + 1;
}

static struct entry **place_of(long key)
{
    struct entry **at = &buckets[(unsigned long)key * 2654435761u % BUCKETS];
    while (*at && (*at)->key != (number)key)
        at = &(*at)->chain;
    return at;
}

static struct node **node_of(long key)
{
    struct node **at = &root;
    while (*at && (*at)->key != (number)key)
        at = key < (*at)->key ? &(*at)->left : &(*at)->right;
    return at;
}

static void set_entry(struct entry *e, long key)
{
    e->key = (number)key;
    e->kind = kinds[key % 4];
    e->rate = key % 3 ? plain : twice;
    e->colour = key % 3 == 0 ? RED : key % 3 == 1 ? GREEN : BLUE;
    e->share = (float)key * 0.5F;
    e->level = (unsigned)key % 500, e->flag = (unsigned)key % 7;
    for (int i = 0; i < 3; i++)
        e->made[i].day = (short)(key - i), e->made[i].second = (number)(key * 100 + i);
    snprintf(e->name, 20, "entry %ld", key);
}

static NOINLINE void put(long key)
{
    struct entry **at = place_of(key);
    if (*at)
        return;
    struct entry *e = *at = calloc(1, sizeof *e);
    set_entry(e, key);
    e->older = newest;
    *(newest ? &newest->newer : &oldest) = e;
    newest = e;
    struct leaf *leaf = calloc(1, sizeof *leaf);
    leaf->owner = e, leaf->weight = key * 7 + 1;
    leaf->text = malloc((size_t)(8 + key % 90));
    memset(leaf->text, (int)('a' + key % 26), (size_t)(8 + key % 90));
    *last_leaf = leaf, last_leaf = &leaf->next;
    e->leaf = leaf;
    struct node **node = node_of(key);
    *node = calloc(1, sizeof **node);
    (*node)->key = (number)key, (*node)->entry = e;
    favourites[key % 12] = e;
    cursor = e, middle = e->name + 3, counter = &e->made[1].day;
    count++, total += key;
}

/* The node stays in the tree, without an entry: the tree is only taken down as a whole. */
static NOINLINE void del(long key)
{
    struct entry **at = place_of(key), *e = *at;
    if (e == NULL || e == newest || e == oldest)
        return;
    *at = e->chain;
    e->older->newer = e->newer, e->newer->older = e->older;
    struct leaf **link = &leaves;
    while (*link != e->leaf)
        link = &(*link)->next;
    *link = e->leaf->next;
    if (last_leaf == &e->leaf->next)
        last_leaf = link;
    free(e->leaf->text);
    free(e->leaf);
    (*node_of(key))->entry = NULL;
    for (int i = 0; i < 12; i++)
        if (favourites[i] == e)
            favourites[i] = newest;
    cursor = newest, middle = newest->name + 3, counter = &newest->made[1].day;
    count--, total -= key;
    memset(e, 0, sizeof *e);
    free(e);
}

static void start(void)
{
    buckets = calloc(BUCKETS, sizeof *buckets);
    pairs = calloc(12, sizeof *pairs);
    for (int i = 0; i < 12; i++)
        pairs[i].first = i + 1, pairs[i].second = 100 - i;
    for (int i = 0; i < 8; i++)
        fixed[i].first = 50 + i, fixed[i].second = 70 - i;
}

/* Not at the start: the new version must not come to the state by itself. */
static void fill(void)
{
    for (int i = 0; i < 8; i++)
        fixed[i].second++, pairs[i].first++;
    for (long i = 0; i < ENTRIES; i++)
        put(i * 37 % 1009);
}

static void free_tree(struct node *node)
{
    if (node == NULL)
        return;
    free_tree(node->left);
    free_tree(node->right);
    free(node);
}

static void drain(void)
{
    for (struct entry *e = newest, *older; e; e = older) {
        older = e->older;
        free(e->leaf->text);
        free(e->leaf);
        memset(e, 0xA5, sizeof *e);
        free(e);
    }
    free_tree(root);
    free(buckets);
    pairs = realloc(pairs, 40 * sizeof *pairs);
    memset(pairs, 0, 40 * sizeof *pairs);
    free(pairs);
    newest = oldest = cursor = NULL, leaves = NULL, last_leaf = &leaves, root = NULL;
    memset(favourites, 0, sizeof favourites);
    count = total = 0;
    start();
    fill();
}

static uint64_t mixed;

static NOINLINE void mix(uint64_t value)
{
    mixed = (mixed ^ value) * 0x9E3779B97F4A7C15u;
    mixed ^= mixed >> 29;
}

static void mix_text(const char *text)
{
    for (; *text; text++)
        mix((unsigned char)*text);
}

static long key_of(const struct entry *e)
{
    return e ? e->key : -1;
}

static void mix_entry(const struct entry *e)
{
    mix((uint64_t)e->key);
    mix((uint64_t)(e->colour == RED ? 5 : e->colour == GREEN ? 6 : 7));
    mix((uint64_t)(e->share * 4));
    mix(e->level), mix(e->flag);
    mix((uint64_t)e->rate(e->key));
    mix((uint64_t)key_of(e->chain)), mix((uint64_t)key_of(e->newer)), mix((uint64_t)key_of(e->older));
    mix((uint64_t)(e->leaf->owner == e)), mix((uint64_t)e->leaf->weight);
    for (int i = 0; i < 3; i++)
        mix((uint64_t)e->made[i].day), mix((uint64_t)e->made[i].second);
    mix_text(e->kind);
    mix_text(e->name);
}

static void mix_tree(const struct node *node)
{
    if (node == NULL)
        return;
    mix_tree(node->left);
    mix((uint64_t)node->key), mix((uint64_t)key_of(node->entry));
    mix_tree(node->right);
}

static uint64_t sum(void)
{
    mixed = 1;
    mix((uint64_t)count), mix((uint64_t)total);
    for (int i = 0; i < BUCKETS; i++)
        for (struct entry *e = buckets[i]; e; e = e->chain)
            mix_entry(e);
    for (struct entry *e = oldest; e; e = e->newer)
        mix((uint64_t)e->key);
    for (struct leaf *leaf = leaves; leaf; leaf = leaf->next) {
        mix((uint64_t)leaf->weight), mix((uint64_t)key_of(leaf->owner));
        for (long i = 0; i < 8 + leaf->owner->key % 90; i++)
            mix(leaf->text[i]);
    }
    mix_tree(root);
    for (int i = 0; i < 12; i++)
        mix((uint64_t)pairs[i].first), mix((uint64_t)pairs[i].second), mix((uint64_t)key_of(favourites[i]));
    for (int i = 0; i < 8; i++)
        mix((uint64_t)fixed[i].first), mix((uint64_t)fixed[i].second);
    mix_text(middle), mix((uint64_t)*counter), mix((uint64_t)key_of(cursor)), mix((uint64_t)turns);
    return mixed;
}

#define EXPECT(condition)                                                                                    \
    if (!(condition))                                                                                        \
    return __LINE__

static int check(void)
{
    long found = 0;
    EXPECT(middle == cursor->name + 3 && counter == &cursor->made[1].day && *last_leaf == NULL);
    for (struct entry *e = oldest, *before = NULL; e; before = e, e = e->newer, found++) {
        EXPECT(e->older == before && *place_of(e->key) == e && (*node_of(e->key))->entry == e);
        struct entry like;
        memset(&like, 0, sizeof like);
        set_entry(&like, e->key);
        EXPECT(e->rate == like.rate && !strcmp(e->name, like.name) && !strcmp(e->kind, like.kind));
        EXPECT(e->colour == like.colour && e->level == like.level && e->flag == like.flag);
        EXPECT(e->leaf->owner == e);
#if VERSION == 2
        EXPECT(e->touched == 0);
#endif
    }
    EXPECT(found == count && newest && newest->newer == NULL);
    return 0;
}

static int answer(char *line)
{
    long key = strlen(line) > 4 ? atol(line + 4) : 0;
    turns++;
    if (!strncmp(line, "put", 3))
        put(key);
    else if (!strncmp(line, "del", 3))
        del(key);
    else if (!strncmp(line, "fill", 4))
        fill();
    else if (!strncmp(line, "drain", 5))
        drain();
    if (!strncmp(line, "check", 5)) {
        turns--;
        int wrong = check();
        return wrong ? printf("%d line %d\n", VERSION, wrong) : printf("%d ok\n", VERSION);
    }
    if (line[0] == 's' || !strncmp(line, "drain", 5)) {
        turns--;
        return printf("%d %016lx\n", VERSION, sum());
    }
    return printf("%d %ld\n", VERSION, count);
}

int main(void)
{
    char line[64];
    setvbuf(stdout, NULL, _IONBF, 0);
    start();
    IN_START;
    printf("ready\n");
    for (;;) {
        ssize_t size = read(0, line, sizeof line - 1); /* one line at a time is asked */
        if (size <= 0)
            return 0;
        line[size - 1] = 0;
        answer(line);
    }
}
