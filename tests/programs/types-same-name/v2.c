#include "scenario.h"

struct item {
    struct item *next;
    long stamp;
    int id;
};

STATE struct item *items;

void fill_other(void);
const char *check_other(void);

void fill(void)
{
    for (int i = 0; i < 7; i++) {
        struct item *it = malloc(sizeof *it);
        *it = (struct item){items, 0, i};
        items = it;
    }
    fill_other();
}

const char *check(void)
{
    int i = 7;
    for (struct item *it = items; it; it = it->next)
        EXPECT(it->id == --i);
    EXPECT(i == 0);
    return check_other();
}
