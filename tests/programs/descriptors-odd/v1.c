/* Descriptors that servers seldom have, each with something in it. */
#include "state.h"
