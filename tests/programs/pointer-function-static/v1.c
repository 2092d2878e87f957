#include "scenario.h"

struct cache {
    int used;
    int slots[4];
};

STATE struct cache *names, *numbers;
STATE int *first_slot;

static NOINLINE struct cache *name_cache(void)
{
    static struct cache cache;
    cache.used++;
    return &cache;
}

static NOINLINE struct cache *number_cache(void)
{
    static struct cache cache = {100, {1, 2, 3, 4}};
    cache.used++;
    return &cache;
}

void fill(void)
{
    names = name_cache();
    numbers = number_cache();
    first_slot = &names->slots[1];
    *first_slot = 77;
}

const char *check(void)
{
    EXPECT(names && names->used % 1000 >= 1 && numbers->used >= 101);
    int before = names->used;
    EXPECT(name_cache() == names && names->used == before + 1);
    before = numbers->used;
    EXPECT(number_cache() == numbers && numbers->used == before + 1 && numbers->slots[3] == 4);
    EXPECT(first_slot == &names->slots[1] && *first_slot == 77);
    return NULL;
}
