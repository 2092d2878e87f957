#define SCENARIO_BUSY
#include "scenario.h"
struct symbol {
    struct symbol *next;
    uint32_t hash;
    void *meaning, *place;
    int references;
    char text[];
};
#include "rest.h"
