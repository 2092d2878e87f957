#include "scenario.h"

struct table {
    int count;
    int rows[];
};

STATE struct table table = {3, {1, 2, 3}};
STATE long added = 1;
STATE long behind = 5;

void fill(void)
{
    table.count += 10;
    for (int i = 0; i < 3; i++)
        table.rows[i] *= 100;
    behind = 6;
}

const char *check(void)
{
    EXPECT(added == 1 && table.count == 13 && behind == 6);
    EXPECT(table.rows[0] == 100 && table.rows[1] == 200 && table.rows[2] == 300);
    return NULL;
}
