#include <stdlib.h>

struct item {
    short stock;
    char color;
    double price;
};

static struct item *items;

void fill_other(void);
const char *check_other(void);

void fill_other(void)
{
    items = malloc(sizeof *items);
    *items = (struct item){12, 0, 9.75};
}

const char *check_other(void)
{
    return items && items->price == 9.75 && items->stock == 12 ? NULL
                                                               : "line 0: the other file's item is wrong";
}
