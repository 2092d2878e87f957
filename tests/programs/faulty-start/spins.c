#include "state.h"

void start(void)
{
    for (volatile int going = 1; going;)
        ;
}
