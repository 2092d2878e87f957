#include "scenario.h"

struct item {
    int value;
    char *text;
};

STATE struct item item;

void fill(void)
{
    uintptr_t address = 0x123456789000; /* where nothing is */

    item.value = 4;
    memcpy(&item.text, &address, sizeof address);
}

const char *check(void)
{
    EXPECT(item.value == 4 && item.text != NULL);
    return NULL;
}
