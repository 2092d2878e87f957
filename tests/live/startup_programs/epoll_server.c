/* The plainest server: one listener in an epoll set. */
#include "scenario.h"
#include <sys/epoll.h>

static int listener, set;

static void wait_for_events(void)
{
    struct epoll_event event;
    if (epoll_wait(set, &event, 1, -1) == 1)
        serve_one(event.data.fd);
}

int main(int argc, char **argv)
{
    (void)argc;
    listener = listen_tcp(atoi(argv[1]));
    set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    require(epoll_ctl(set, EPOLL_CTL_ADD, listener, &event) == 0, "epoll_ctl");
    say("ready v%d listener %d set %d", VERSION, listener, set);
    for (;;)
        wait_for_events();
}
