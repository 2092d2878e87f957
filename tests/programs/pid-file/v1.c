/* Writes its PID, a line of log and a file by a second name when it starts. */
#include "state.h"
