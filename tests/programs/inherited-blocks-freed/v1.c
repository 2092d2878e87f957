#define SCENARIO_BUSY
#include "scenario.h"
#include <malloc.h>

struct thing {
    int id;
    struct thing *next;
    char *text;
};

enum { THINGS = 200 };

STATE struct thing *things;
STATE unsigned char *buffers[THINGS];
STATE size_t sizes[THINGS];
STATE uint32_t seed = 3;

static struct thing *make(int id, struct thing *next)
{
    struct thing *t = calloc(1, sizeof *t);
    t->id = id;
    t->next = next;
    if (asprintf(&t->text, "thing number %d", id) < 0)
        abort();
    return t;
}

void fill(void)
{
    for (int i = 0; i < THINGS; i++) {
        things = make(i, things);
        sizes[i] = scenario_size(&seed);
        buffers[i] = malloc(sizes[i]);
        memset(buffers[i], i, sizes[i]);
    }
}

const char *check(void)
{
    int i = THINGS;
    for (struct thing *t = things; t; t = t->next) {
        char text[32];
        snprintf(text, sizeof text, "thing number %d", --i);
        EXPECT(t->id == i && strcmp(t->text, text) == 0);
        EXPECT(malloc_usable_size(t) >= sizeof *t);
        EXPECT(malloc_usable_size(t->text) >= strlen(text) + 1);
        EXPECT(buffers[i] && scenario_holds(buffers[i], sizes[i], (unsigned char)i));
        EXPECT(malloc_usable_size(buffers[i]) >= sizes[i]);
    }
    EXPECT(i == 0);
    return NULL;
}

/* Every third thing is made anew, every second buffer gets another size. */
const char *busy(void)
{
    for (struct thing **place = &things; *place; place = &(*place)->next) {
        struct thing *old = *place;
        if (old->id % 3)
            continue;
        *place = make(old->id, old->next);
        free(old->text);
        free(old);
    }
    for (int i = 0; i < THINGS; i += 2) {
        size_t before = sizes[i], after = scenario_size(&seed);
        buffers[i] = realloc(buffers[i], after);
        EXPECT(scenario_holds(buffers[i], before < after ? before : after, (unsigned char)i));
        memset(buffers[i], i, sizes[i] = after);
    }
    unsigned char *zeros = calloc(100, 100);
    EXPECT(scenario_holds(zeros, 10000, 0));
    free(zeros);
    return NULL;
}
