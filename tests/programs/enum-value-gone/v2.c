#include "scenario.h"

enum position { OPEN, SHUT };

struct door {
    enum position position;
};

STATE struct door *doors[3];

void fill(void)
{
    for (int i = 0; i < 3; i++) {
        doors[i] = malloc(sizeof *doors[i]);
        doors[i]->position = SHUT;
    }
}

const char *check(void)
{
    for (int i = 0; i < 3; i++)
        EXPECT(doors[i] && doors[i]->position == SHUT);
    return NULL;
}
