#include "scenario.h"

struct record {
    int id;
    char *name;
};

STATE struct record *plain, *zeroed, *grown, *array, *aligned, *rounded;
STATE char *copy, *line;

void fill(void)
{
    void *memory = NULL;
    plain = malloc(sizeof *plain);
    *plain = (struct record){.id = 1, .name = strdup("malloc")};
    zeroed = calloc(1, sizeof *zeroed);
    zeroed->id = 2;
    grown = realloc(malloc(5), 4 * sizeof *grown);
    memset(grown, 0, 4 * sizeof *grown);
    for (int i = 0; i < 4; i++)
        grown[i].id = 30 + i;
    array = reallocarray(NULL, 6, sizeof *array);
    memset(array, 0, 6 * sizeof *array);
    array[5] = (struct record){.id = 45, .name = strndup("strndup and more", 7)};
    if (posix_memalign(&memory, 64, sizeof *aligned) == 0)
        aligned = memory;
    *aligned = (struct record){.id = 5, .name = plain->name};
    rounded = aligned_alloc(4096, 4096);
    memset(rounded, 0, 4096);
    rounded[0].id = 6;
    copy = strdup("strdup");
    if (asprintf(&line, "asprintf %d", 7) < 0)
        line = NULL;
}

const char *check(void)
{
    EXPECT(plain && plain->id == 1 && strcmp(plain->name, "malloc") == 0);
    EXPECT(zeroed->id == 2 && zeroed->name == NULL);
    for (int i = 0; i < 4; i++)
        EXPECT(grown[i].id == 30 + i && grown[i].name == NULL);
    EXPECT(array[0].id == 0 && array[5].id == 45 && strcmp(array[5].name, "strndup") == 0);
    EXPECT(aligned->id == 5 && aligned->name == plain->name);
    EXPECT(rounded[0].id == 6);
    EXPECT(strcmp(copy, "strdup") == 0 && strcmp(line, "asprintf 7") == 0);
    return NULL;
}
