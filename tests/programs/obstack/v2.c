#define SCENARIO_BUSY
#include "scenario.h"
struct owner {
    long since[3];
    int id;
    struct word *first;
};
#include "rest.h"
