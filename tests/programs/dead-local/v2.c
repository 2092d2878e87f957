#define SCENARIO_OWN_MAIN
#include "scenario.h"
struct header {
    long size;
    int version;
    int flags[13];
};
#include "rest.h"
