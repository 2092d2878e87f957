#include "scenario.h"

enum mode { IDLE, BUSY, DEAD };

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
    *worker = (struct worker){5, BUSY, {IDLE, BUSY, DEAD}, DEAD, 77};
    spare = *worker;
    mode = DEAD;
}

static const char *check_one(struct worker *w)
{
    EXPECT(w->id == 5 && w->mode == BUSY && w->past[0] == IDLE && w->past[1] == BUSY && w->past[2] == DEAD);
    EXPECT(w->wanted == DEAD && w->flags == 77);
    return NULL;
}

const char *check(void)
{
    EXPECT(worker && mode == DEAD);
    const char *complaint = check_one(worker);
    return complaint ? complaint : check_one(&spare);
}
