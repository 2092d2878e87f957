#define SCENARIO_OWN_MAIN
#include "scenario.h"

STATE int length = 3;
STATE volatile int sum, turns;
STATE bool filled;

void fill(void)
{
    filled = true;
}

const char *check(void)
{
    EXPECT(filled && sum == 3 * turns);
    return NULL;
}

static NOINLINE void mark(int *marks, int count)
{
    for (int i = 0; i < count; i++)
        marks[i] = 1;
}

static NOINLINE int count_marks(const int *marks, int count)
{
    int found = 0;
    for (int i = 0; i < count; i++)
        found += marks[i];
    return found;
}

/* The marks are made before the wait and counted behind it. */
static NOINLINE int serve(void)
{
    int marks[length];
    bool more;
    mark(marks, length);
    scenario_ready();
    do {
        more = scenario_turn();
        sum += count_marks(marks, length);
        turns++;
    } while (more);
    return 0;
}

int main(void)
{
    return serve();
}
