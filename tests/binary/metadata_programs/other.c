#include "shared.h"

#include <stdlib.h>

struct clash {
    double only_there[3];
};
struct holder {
    struct clash *clash;
};
typedef struct holder per_unit;

struct later {
    int seed;
    struct later *previous;
    struct node *node;
};

static int same_name = 2;
static struct clash clash;
per_unit keeper = {&clash};
static later_t *newest;
int common_counter;
__thread later_t *thread_newest;

static int __attribute__((noinline)) twice(int number)
{
    static int calls;
    calls++;
    return number * 2 + calls;
}

later_t *make_later(int seed)
{
    later_t *fresh = calloc(1, sizeof *fresh);
    fresh->seed = twice(seed) + same_name + shared_counter;
    fresh->previous = newest;
    fresh->node = head;
    thread_newest = fresh;
    same_name++;
    return newest = fresh;
}
