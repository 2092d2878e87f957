#define SCENARIO_BUSY
#include "scenario.h"
struct owner {
    int id;
    struct word *first;
};
#include "rest.h"
