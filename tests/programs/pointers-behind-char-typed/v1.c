#define SCENARIO_BUSY
#include "scenario.h"
struct client {
    int id;
    char name[12];
};
#include "rest.h"
