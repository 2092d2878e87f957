#define SCENARIO_BUSY
#include "scenario.h"
struct session {
    struct session *next;
    int number;
    char name[20];
};
#include "rest.h"
