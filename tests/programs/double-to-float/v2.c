#include "scenario.h"

struct point {
    float x;
    float y;
    int count;
};

STATE struct point *point;
STATE float scale;

void fill(void)
{
    point = malloc(sizeof *point);
    *point = (struct point){0.5, -1e10, 4096};
    scale = __builtin_inf();
}

const char *check(void)
{
    EXPECT(point && point->x == 0.5 && point->y == -1e10 && point->count == 4096);
    EXPECT(scale == __builtin_inf());
    return NULL;
}
