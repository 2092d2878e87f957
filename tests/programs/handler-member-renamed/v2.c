#include "scenario.h"

struct page {
    int id;
    long requests;
};

STATE struct page *page;

void fill(void)
{
    page = malloc(sizeof *page);
    *page = (struct page){1, 99};
}

const char *check(void)
{
    EXPECT(page && page->id == 1 && page->requests == 99);
    return NULL;
}
