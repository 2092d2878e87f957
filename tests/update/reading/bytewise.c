/* Collects a line itself, byte by byte, in a local of the function that waits; the function's code changes. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static long lines, bytes;

int main(void)
{
    char line[64];
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("ready\n");
    for (;;) {
        size_t used = 0;
        do {
            if (read(0, line + used, 1) != 1)
                return 0;
        } while (line[used++] != '\n' && used < sizeof line);
        line[used - 1] = 0;
        lines++;
        bytes += (long)strlen(line);
#ifdef SECOND
        if (bytes > 100000)
            bytes -= 100000;
#endif
        printf("%s %ld %ld %s\n", VERSION, lines, bytes, line);
    }
}
