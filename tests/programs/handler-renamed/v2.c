#include "scenario.h"

struct sheet {
    int id;
    int added;
    struct sheet *next;
    int (*call)(struct sheet *);
};

STATE struct sheet *sheets;

static __attribute__((used, noinline)) int on_sheet(struct sheet *p)
{
    return p->id + 1;
}

void fill(void)
{
    for (int i = 0; i < 9; i++) {
        struct sheet *p = calloc(1, sizeof *p);
        p->id = i;
        p->call = on_sheet;
        p->next = sheets;
        sheets = p;
    }
}

const char *check(void)
{
    int i = 8;
    for (struct sheet *p = sheets; p; p = p->next, i--)
        EXPECT(p->id == i && p->call == on_sheet && p->call(p) == i + 1);
    EXPECT(i == -1);
    return NULL;
}
