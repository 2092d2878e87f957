#define SCENARIO_BUSY
#include "scenario.h"

struct item {
    int id;
    char payload[100];
};

enum { ITEMS = 100000, ROUNDS = 8 };

STATE struct item **items;
STATE bool filled;

static long resident_pages(void)
{
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld %ld", &size, &resident) != 2)
        abort();
    fclose(file);
    return resident;
}

static void make(int i)
{
    items[i] = malloc(sizeof *items[i]);
    memset(items[i], 'x', sizeof *items[i]);
    items[i]->id = i;
}

void fill(void)
{
    items = calloc(ITEMS, sizeof *items);
    for (int i = 0; i < ITEMS; i++)
        make(i);
    filled = true;
}

const char *check(void)
{
    EXPECT(filled);
    for (int i = 0; i < ITEMS; i++)
        EXPECT(items[i]->id == i && items[i]->payload[99] == 'x');
    return NULL;
}

/* All items are made anew, some times over; the second half of that needs no more memory than the first. */
const char *busy(void)
{
    long before = 0;
    for (int round = 0; round < ROUNDS; round++) {
        if (round == ROUNDS / 2)
            before = resident_pages();
        for (int i = 0; i < ITEMS; i++) {
            free(items[i]);
            make(i);
        }
    }
    EXPECT(resident_pages() < before + before / 4);
    return NULL;
}
