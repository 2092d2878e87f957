#define SCENARIO_BUSY
#include "scenario.h"
struct session {
    struct session *next;
    long bytes_in, bytes_out;
    int number;
    char name[20];
};
#include "rest.h"
