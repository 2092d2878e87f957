#include "scenario.h"
struct timer {
    int due;
};
struct peer {
    int descriptor;
    int other;
    struct timer timer;
    char name[12];
};
#include "rest.h"
