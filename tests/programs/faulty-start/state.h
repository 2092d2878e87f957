/* What all versions of this program share; `start` is where the new ones go wrong. */
#define SCENARIO_OWN_MAIN
#include "scenario.h"

struct item {
    int id;
    struct item *next;
};

STATE struct item *items;

void start(void);

void fill(void)
{
    for (int i = 0; i < 10; i++) {
        struct item *it = calloc(1, sizeof *it);
        it->id = i;
        it->next = items;
        items = it;
    }
}

const char *check(void)
{
    int i = 10;
    for (struct item *it = items; it; it = it->next)
        EXPECT(it->id == --i);
    EXPECT(i == 0);
    return NULL;
}

int main(void)
{
    start();
    scenario_loop();
    return 0;
}
