#include "scenario.h"

struct item {
    int key;
    char *label;
};

STATE struct item items[8];
STATE int used;

void fill(void)
{
    for (used = 0; used < 6; used++)
        items[used] = (struct item){used * 11, strdup("a label")};
}

const char *check(void)
{
    EXPECT(used == 6);
    for (int i = 0; i < used; i++)
        EXPECT(items[i].key == i * 11 && strcmp(items[i].label, "a label") == 0);
    return NULL;
}
