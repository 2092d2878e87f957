/* Descriptors of every kind. Version 2 makes a file of its own first, and reads a configuration in between.
 * Arguments: PORT LOG. It prints the numbers that both versions have, then version 2's own. */
#include "scenario.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

int main(int argc, char **argv)
{
    (void)argc;
    int own = VERSION == 2 ? open("/etc/passwd", O_RDONLY) : -1;
    int log = open(argv[2], O_WRONLY | O_CREAT | O_APPEND, 0600);
    int set = epoll_create1(0);
    int configuration = open("/etc/hostname", O_RDONLY);
    int listener = listen_tcp(atoi(argv[1]));
    close(configuration);
    int event = eventfd(0, EFD_NONBLOCK);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    int signals = signalfd(-1, &mask, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0), watch = inotify_init();
    int ends[2], pair[2];
    require(pipe(ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "pairs");
    int copy = dup(log);
    struct epoll_event item = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(set, EPOLL_CTL_ADD, listener, &item);
    say("ready %d %d %d %d %d %d %d %d %d %d %d %d %d", log, set, listener, event, signals, timer, watch, ends[0],
        ends[1], pair[0], pair[1], copy, own >= 0 ? own : copy);
    for (;;) {
        if (epoll_wait(set, &item, 1, -1) != 1)
            continue;
        char byte;
        if (item.data.fd == listener) {
            item.data.fd = accept(listener, NULL, NULL);
            epoll_ctl(set, EPOLL_CTL_ADD, item.data.fd, &item);
        } else if (read(item.data.fd, &byte, 1) == 1) {
            require(write(item.data.fd, "!", 1) == 1, "answer");
        } else {
            close(item.data.fd);
        }
    }
}
