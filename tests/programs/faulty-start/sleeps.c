#include "state.h"

void start(void)
{
    for (;;)
        pause();
}
