/* Waits for ever; a signal handler sets a flag that the loop looks at after the wait. Argument: MODE. */
#include "scenario.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    stopped = number;
}

int main(int argc, char **argv)
{
    (void)argc;
    struct sigaction action = {.sa_handler = stop, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    int set = epoll_create1(0);
    struct epoll_event event;
    say("ready");
    while (!stopped) {
        if (strcmp(argv[1], "epoll") == 0)
            epoll_wait(set, &event, 1, -1);
        else if (strcmp(argv[1], "select") == 0)
            select(0, NULL, NULL, NULL, NULL);
        else
            poll(NULL, 0, -1);
    }
    say("stopped");
    return 0;
}
