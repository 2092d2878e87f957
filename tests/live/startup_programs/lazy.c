/* Says "ready", then answers a line; calls two functions of libc only if it is asked to. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION 1
#endif

int main(void)
{
    char line[64];
    write(1, "ready\n", 6);
    for (;;) {
        ssize_t got = read(0, line, sizeof line);
        if (got <= 0)
            return 0;
        if (line[0] == 's' && strfry(line) && VERSION == 2)
            memfrob(line, sizeof line);
        write(1, "done\n", 5);
    }
}
