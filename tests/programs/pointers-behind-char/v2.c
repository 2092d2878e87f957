#define SCENARIO_BUSY
#include "scenario.h"
struct client {
    int more[4];
    int id;
    char name[12];
};
#include "rest.h"
