#include "scenario.h"

struct flags {
    unsigned ready : 1;
    unsigned color : 6;
    unsigned fresh : 2;
    uint64_t serial : 41;
    int delta : 9;
    unsigned char mode;
};

STATE struct flags flags, *others;

void fill(void)
{
    flags = (struct flags){.mode = 5, .delta = -13, .ready = 1, .serial = 0xfedcba9876, .color = 9};
    others = malloc(sizeof *others);
    *others = (struct flags){.mode = 2, .delta = 15, .serial = 1, .color = 15};
}

const char *check(void)
{
    EXPECT(flags.mode == 5 && flags.delta == -13 && flags.ready == 1);
    EXPECT(flags.serial == 0xfedcba9876 && flags.color == 9);
    EXPECT(others && others->mode == 2 && others->delta == 15 && others->ready == 0);
    EXPECT(others->serial == 1 && others->color == 15);
    return NULL;
}
