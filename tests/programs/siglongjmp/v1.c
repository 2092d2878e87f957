#define SCENARIO_OWN_MAIN
#include "scenario.h"
#include <setjmp.h>

struct job {
    int id;
};

STATE struct job *job;
STATE sigjmp_buf again;
STATE volatile int jumps, wanted;
STATE volatile bool leap;

void fill(void)
{
    job = calloc(1, sizeof *job);
    job->id = 5;
}

/* Every check is followed by a jump back into the loop, which the next one looks for. */
const char *check(void)
{
    EXPECT(job->id == 5);
    EXPECT(jumps == wanted);
    wanted++;
    leap = true;
    return NULL;
}

static NOINLINE void jump(void)
{
    char room[200];
    memset(room, 1, sizeof room);
    leap = false;
    siglongjmp(again, room[7]);
}

static NOINLINE int serve(char *name)
{
    if (sigsetjmp(again, 1) == 0)
        scenario_ready();
    else
        jumps++;
    if (name[0] == '\0')
        return 1;
    while (scenario_turn())
        if (leap)
            jump();
    return 0;
}

int main(int argc, char **argv)
{
    return serve(argv[argc - 1]);
}
