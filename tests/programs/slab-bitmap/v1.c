#define SCENARIO_BUSY
#include "scenario.h"
struct account {
    int id;
    int sessions;
};
#include "rest.h"
