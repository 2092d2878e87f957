/* A server for one client, on its standard input and output: answers every line with the count of lines so far.
 * That makes every disturbance visible: a lost line, a second one, a restart. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static long lines_seen;
static char pending[4096];
static size_t pending_size;

static void answer_lines(void)
{
    char *end;

    while ((end = memchr(pending, '\n', pending_size)) != NULL) {
        size_t used = (size_t)(end - pending) + 1;
        dprintf(STDOUT_FILENO, "%ld\n", ++lines_seen);
        memmove(pending, end + 1, pending_size - used);
        pending_size -= used;
    }
}

static int read_more(void)
{
    ssize_t count = read(STDIN_FILENO, pending + pending_size, sizeof pending - pending_size);

    if (count <= 0)
        return 0;
    pending_size += (size_t)count;
    answer_lines();
    return 1;
}

int main(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    dprintf(STDOUT_FILENO, "ready\n");
    do
        poll(&input, 1, -1);
    while (read_more());
    return 0;
}
