#include "scenario.h"

struct flags {
    unsigned mode : 3;
    int delta : 5;
    unsigned ready : 1;
    uint64_t serial : 40;
    unsigned color : 4;
};

STATE struct flags flags, *others;

void fill(void)
{
    flags = (struct flags){5, -13, 1, 0xfedcba9876, 9};
    others = malloc(sizeof *others);
    *others = (struct flags){2, 15, 0, 1, 15};
}

const char *check(void)
{
    EXPECT(flags.mode == 5 && flags.delta == -13 && flags.ready == 1);
    EXPECT(flags.serial == 0xfedcba9876 && flags.color == 9);
    EXPECT(others && others->mode == 2 && others->delta == 15 && others->ready == 0);
    EXPECT(others->serial == 1 && others->color == 15);
    return NULL;
}
