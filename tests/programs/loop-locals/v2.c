#define SCENARIO_OWN_MAIN
#include "scenario.h"

struct job {
    int id;
    struct job *next;
};

STATE struct job *volatile offered;
STATE int fresh;
STATE volatile int turns, taken, sum;

void fill(void)
{
    for (int i = 1; i <= 10; i++) {
        struct job *j = calloc(1, sizeof *j);
        j->id = i;
        j->next = offered;
        offered = j;
    }
}

const char *check(void)
{
    EXPECT(taken == 10 && sum == 55);
    EXPECT(turns > fresh++);
    return NULL;
}

/* The jobs and the counts live only here; the statics are told at every turn. */
static NOINLINE int serve(void)
{
    struct job *jobs = NULL;
    int count = 0;

    scenario_ready();
    while (scenario_turn()) {
        int ids = 0, length = 0;
        turns = ++count;
        if (offered) {
            jobs = offered;
            offered = NULL;
        }
        for (struct job *j = jobs; j; j = j->next, length++)
            ids += j->id;
        taken = length;
        sum = ids;
    }
    return count;
}

int main(void)
{
    return serve() > 0 ? 0 : 1;
}
