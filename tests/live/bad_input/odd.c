/* Waits for a line with something odd about it, which argv[1] names:
 * title (its arguments overwritten), locked (memory), uring (an io_uring or userfaultfd descriptor), plain. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static char locked[1 << 16];
static char parameters[256];

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "plain";
    char line[16];

    if (strcmp(kind, "uring") == 0 && syscall(SYS_io_uring_setup, 4, parameters) < 0 &&
        syscall(SYS_userfaultfd, 1) < 0) /* io_uring is switched off on many machines */
        return 1;
    if (strcmp(kind, "locked") == 0 && mlock(locked, sizeof locked) != 0)
        return 1;
    if (strcmp(kind, "title") == 0)
        memset(argv[0], 'x', (size_t)(argv[1] + strlen(argv[1]) - argv[0]));
    dprintf(STDOUT_FILENO, "ready\n");
    return read(STDIN_FILENO, line, sizeof line) < 0;
}
