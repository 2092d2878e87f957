#define SCENARIO_BUSY
#include "scenario.h"
struct account {
    double balance;
    int id;
    int sessions;
};
#include "rest.h"
