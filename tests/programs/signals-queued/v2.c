/* What waits is taken, judged and queued again, as it was. */
#define SCENARIO_OWN_MAIN
#include "scenario.h"
struct item {
    long more[6];
    int id;
    int weight;
};
#include "rest.h"
