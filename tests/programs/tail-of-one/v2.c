#include "scenario.h"

#define KEY 0x7ffff0000000ul /* an address, if it were one */

struct record {
    unsigned long key;
    char *names[1];
};

STATE struct record table[3];

void fill(void)
{
    for (int i = 0; i < 3; i++)
        table[i] = (struct record){KEY + i, {calloc(1, 20)}};
}

const char *check(void)
{
    for (int i = 0; i < 3; i++)
        EXPECT(table[i].key == KEY + i && table[i].names[0] && !table[i].names[0][0]);
    return NULL;
}
