#include "scenario.h"

enum position { OPEN, AJAR, SHUT };

struct door {
    enum position position;
};

STATE struct door *doors[3];

void fill(void)
{
    for (int i = 0; i < 3; i++) {
        doors[i] = malloc(sizeof *doors[i]);
        doors[i]->position = i == 2 ? AJAR : SHUT;
    }
}

const char *check(void)
{
    for (int i = 0; i < 3; i++)
        EXPECT(doors[i] && doors[i]->position == (i == 2 ? AJAR : SHUT));
    return NULL;
}
