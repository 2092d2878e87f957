#define SCENARIO_BUSY
#include "scenario.h"

struct item {
    int key;
    char *label;
    char *name;
    struct item *next;
};

STATE struct item *items;
STATE int used;

void fill(void)
{
    char name[32];
    for (int i = 5; i >= 0; i--) {
        struct item *it = malloc(sizeof *it);
        snprintf(name, sizeof name, "item %d", i * 11);
        *it = (struct item){i * 11, "a label", strdup(name), items};
        items = it;
    }
    used = 6;
}

const char *check(void)
{
    char name[32];
    int i = 0;
    EXPECT(used == 6);
    for (struct item *it = items; it; it = it->next, i++) {
        snprintf(name, sizeof name, "item %d", it->key);
        EXPECT(it->key == i * 11 && strcmp(it->label, "a label") == 0 && strcmp(it->name, name) == 0);
    }
    EXPECT(i == 6);
    return NULL;
}

const char *busy(void)
{
    struct item *fresh = NULL, **last = &fresh;
    for (struct item *it = items, *next; it; it = next) {
        next = it->next;
        *last = malloc(sizeof **last);
        **last = *it;
        (*last)->name = realloc(it->name, 100);
        (*last)->next = NULL;
        last = &(*last)->next;
        free(it);
    }
    items = fresh;
    return check();
}
