#include "scenario.h"

struct entry {
    struct entry *next;
    char *key;
    int value;
};

struct table {
    unsigned used;
    unsigned mask;
    struct entry **buckets;
};

STATE struct table *table;

static unsigned hash(const char *key)
{
    unsigned h = 5381;
    while (*key)
        h = h * 33 + (unsigned char)*key++;
    return h;
}

static struct entry *find(const char *key)
{
    struct entry *e = table->buckets[hash(key) & table->mask];
    while (e && strcmp(e->key, key) != 0)
        e = e->next;
    return e;
}

void fill(void)
{
    table = malloc(sizeof *table);
    *table = (struct table){0, 63, calloc(64, sizeof *table->buckets)};
    for (int i = 0; i < 300; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%d", i);
        struct entry *e = malloc(sizeof *e), **bucket = &table->buckets[hash(key) & table->mask];
        *e = (struct entry){*bucket, strdup(key), i * i};
        *bucket = e;
        table->used++;
    }
}

const char *check(void)
{
    EXPECT(table && table->used == 300 && table->mask == 63);
    for (int i = 0; i < 300; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%d", i);
        EXPECT(find(key) && find(key)->value == i * i);
    }
    EXPECT(find("key300") == NULL);
    return NULL;
}
