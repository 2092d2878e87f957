#define SCENARIO_OWN_MAIN
#include "scenario.h"

typedef int scale_function(int);

struct entry {
    int id;
    char *name;
    struct entry *next;
    scale_function *scale;
    const char *kind;
};

struct owner {
    struct entry *newest;
    struct entry **index;
    int count;
    short generation;
    char note[16];
};

STATE struct owner *owner;
STATE struct entry *buckets[16];
STATE unsigned fills;

static int twice(int x)
{
    return 2 * x;
}

static int thrice(int x)
{
    return 3 * x;
}

static void add(int id)
{
    struct entry *e = calloc(1, sizeof *e);
    e->id = id;
    e->next = buckets[id % 16];
    buckets[id % 16] = e;
    e->name = calloc(1, 16);
    snprintf(e->name, 16, "entry %d", id);
    e->scale = id % 2 ? thrice : twice;
    e->kind = id % 2 ? "odd" : "even";
    owner->index = reallocarray(owner->index, (size_t)owner->count + 1, sizeof *owner->index);
    owner->index[owner->count++] = owner->newest = e;
}

void fill(void)
{
    for (int i = 0; i < 100; i++)
        add(owner->count);
    fills++;
    owner->generation = (short)-(int)fills;
    snprintf(owner->note, sizeof owner->note, "fill %u", fills);
}

const char *check(void)
{
    char text[16];
    int chained = 0;
    EXPECT(fills && owner->count == (int)fills * 100 && owner->generation == -(int)fills);
    snprintf(text, sizeof text, "fill %u", fills);
    EXPECT(strcmp(owner->note, text) == 0);
    EXPECT(owner->newest == owner->index[owner->count - 1]);
    for (int i = 0; i < owner->count; i++) {
        struct entry *e = owner->index[i];
        snprintf(text, sizeof text, "entry %d", i);
        EXPECT(e->id == i && strcmp(e->name, text) == 0);
        EXPECT(e->scale == (i % 2 ? thrice : twice) && e->scale(7) == (i % 2 ? 21 : 14));
        EXPECT(strcmp(e->kind, i % 2 ? "odd" : "even") == 0);
    }
    for (int i = 0; i < 16; i++)
        for (struct entry *e = buckets[i]; e; e = e->next, chained++)
            EXPECT(e->id % 16 == i && owner->index[e->id] == e);
    EXPECT(chained == owner->count);
    return NULL;
}

int main(void)
{
    owner = calloc(1, sizeof *owner);
    scenario_loop();
    return 0;
}
