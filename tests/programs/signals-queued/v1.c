/* What waits is taken, judged and queued again, as it was. */
#define SCENARIO_OWN_MAIN
#include "scenario.h"
struct item {
    int id;
    int weight;
};
#include "rest.h"
