#include "state.h"

void start(void)
{
}
