#define SCENARIO_BUSY
#include "scenario.h"
struct symbol {
    struct symbol *next;
    uint32_t hash;
    int references;
    char text[];
};
#include "rest.h"
