#include "scenario.h"
struct timer {
    long due;
    long slack;
};
struct peer {
    long since; /* new */
    char name[24];
    int other;
    int descriptor;
    struct timer timer;
};
#include "rest.h"
