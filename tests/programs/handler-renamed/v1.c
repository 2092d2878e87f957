#include "scenario.h"

struct page {
    int id;

    struct page *next;
    int (*call)(struct page *);
};

STATE struct page *pages;

static __attribute__((used, noinline)) int on_page(struct page *p)
{
    return p->id + 1;
}

void fill(void)
{
    for (int i = 0; i < 9; i++) {
        struct page *p = calloc(1, sizeof *p);
        p->id = i;
        p->call = on_page;
        p->next = pages;
        pages = p;
    }
}

const char *check(void)
{
    int i = 8;
    for (struct page *p = pages; p; p = p->next, i--)
        EXPECT(p->id == i && p->call == on_page && p->call(p) == i + 1);
    EXPECT(i == -1);
    return NULL;
}
