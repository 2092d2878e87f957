#include "scenario.h"

enum state { IDLE = 1, BUSY, WAITING, DONE };

struct worker {
    int id;
    enum state state;
    enum state before : 5, wanted : 4; /* zero: none */
};

static const enum state states[] = {0, IDLE, BUSY, WAITING, DONE};

STATE struct worker *workers[5];
STATE enum state overall;
STATE enum state history[5];

void fill(void)
{
    for (int i = 0; i < 5; i++) {
        workers[i] = malloc(sizeof *workers[i]);
        *workers[i] = (struct worker){i, states[i], states[i], states[4 - i]};
        history[i] = states[i];
    }
    overall = WAITING;
}

const char *check(void)
{
    EXPECT(overall == WAITING);
    for (int i = 0; i < 5; i++) {
        EXPECT(workers[i]->id == i && workers[i]->state == states[i] && history[i] == states[i]);
        EXPECT(workers[i]->before == states[i] && workers[i]->wanted == states[4 - i]);
    }
    return NULL;
}
