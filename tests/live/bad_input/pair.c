/* Two threads, both waiting: one for a line, the other for the first to end. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void *wait_for_line(void *unused)
{
    char line[64];

    (void)unused;
    dprintf(STDOUT_FILENO, "ready\n");
    while (read(STDIN_FILENO, line, sizeof line) > 0)
        dprintf(STDOUT_FILENO, "alive\n");
    return NULL;
}

int main(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, wait_for_line, NULL) != 0)
        return 1;
    return pthread_join(thread, NULL);
}
