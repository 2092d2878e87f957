#include "state.h"

void start(void)
{
    fputs("cannot read its configuration\n", stderr);
    exit(3);
}
