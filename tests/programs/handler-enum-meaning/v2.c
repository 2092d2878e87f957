#include "scenario.h"

enum mode { GONE = 7, WORKING = 3, SLEEPING = 1 };

struct worker {
    int id;
    enum mode mode;
    enum mode past[3];
    enum mode wanted : 4;
    unsigned flags : 12;
};

STATE struct worker *worker;
STATE enum mode mode;
STATE struct worker spare;

void fill(void)
{
    worker = calloc(1, sizeof *worker);
    *worker = (struct worker){5, WORKING, {SLEEPING, WORKING, GONE}, GONE, 77};
    spare = *worker;
    mode = GONE;
}

static const char *check_one(struct worker *w)
{
    EXPECT(w->id == 5 && w->mode == WORKING && w->past[0] == SLEEPING && w->past[1] == WORKING && w->past[2] == GONE);
    EXPECT(w->wanted == GONE && w->flags == 77);
    return NULL;
}

const char *check(void)
{
    EXPECT(worker && mode == GONE);
    const char *complaint = check_one(worker);
    return complaint ? complaint : check_one(&spare);
}
