#include "scenario.h"

enum state { IDLE, BUSY, DONE };

struct worker {
    int id;
    enum state state;
};

STATE struct worker *workers[3];
STATE enum state overall;
STATE enum state history[4];

void fill(void)
{
    static const enum state states[] = {DONE, BUSY, IDLE};
    for (int i = 0; i < 3; i++) {
        workers[i] = malloc(sizeof *workers[i]);
        *workers[i] = (struct worker){i, states[i]};
        history[i] = states[i];
    }
    overall = BUSY;
}

const char *check(void)
{
    EXPECT(overall == BUSY);
    EXPECT(workers[0] && workers[0]->id == 0 && workers[0]->state == DONE);
    EXPECT(workers[1]->id == 1 && workers[1]->state == BUSY);
    EXPECT(workers[2]->id == 2 && workers[2]->state == IDLE);
    EXPECT(history[0] == DONE && history[1] == BUSY && history[2] == IDLE);
    return NULL;
}
