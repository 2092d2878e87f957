#include "scenario.h"

struct reading {
    char unit;
    double value;
    short sensor;
    struct reading *previous;
    int64_t taken;
};

STATE struct reading last, *history;

void fill(void)
{
    last = (struct reading){'K', 273.15, -4, NULL, INT64_C(1) << 40};
    for (int i = 0; i < 9; i++) {
        struct reading *r = malloc(sizeof *r);
        *r = (struct reading){(char)('a' + i), i / 8.0, (short)i, history, -i};
        history = r;
    }
}

const char *check(void)
{
    int i = 9;
    EXPECT(last.unit == 'K' && last.value == 273.15 && last.sensor == -4);
    EXPECT(last.previous == NULL && last.taken == INT64_C(1) << 40);
    for (struct reading *r = history; r; r = r->previous) {
        i--;
        EXPECT(r->unit == 'a' + i && r->value == i / 8.0 && r->sensor == i && r->taken == -i);
    }
    EXPECT(i == 0);
    return NULL;
}
