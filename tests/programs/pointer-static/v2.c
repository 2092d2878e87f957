#include "scenario.h"

struct option {
    const char *name;
    long changed;
    int value;
};

struct option verbose = {"verbose", 0, 0};
STATE struct option options[5];
STATE struct option *current, **slot, *table[2];
STATE int *value;
STATE char buffer[100], *cursor;

void fill(void)
{
    options[2].value = 22;
    verbose.value = 1;
    current = &verbose;
    table[0] = &options[2];
    table[1] = &verbose;
    slot = &table[1];
    value = &options[2].value;
    strcpy(buffer, "some text");
    cursor = buffer + 5;
}

const char *check(void)
{
    EXPECT(current == &verbose && current->value == 1 && strcmp(current->name, "verbose") == 0);
    EXPECT(table[0] == &options[2] && table[0]->value == 22 && table[1] == &verbose);
    EXPECT(slot == &table[1] && value == &options[2].value);
    EXPECT(cursor == buffer + 5 && strcmp(cursor, "text") == 0);
    return NULL;
}
