#include "state.h"

void start(void)
{
    calloc(1, 100);
}
