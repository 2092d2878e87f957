/* A server that looks closely at how its waiting ends: an EINTR it did not ask for, or a wait that is too long, is
 * told. Arguments: MODE MS. It answers a line on stdin with what it has seen. */
#include "scenario.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>

static int set, rounds, interrupted, late_ms;

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

__attribute__((noinline)) static int wait_once(const char *mode, int ms)
{
    if (strcmp(mode, "epoll") == 0) {
        struct epoll_event event;
        return epoll_wait(set, &event, 1, ms);
    }
    if (strcmp(mode, "select") == 0) {
        fd_set read;
        FD_ZERO(&read);
        FD_SET(0, &read);
        struct timeval time = {ms / 1000, ms % 1000 * 1000};
        return select(1, &read, NULL, NULL, ms < 0 ? NULL : &time);
    }
    struct pollfd entry = {.fd = 0, .events = POLLIN};
    return poll(&entry, 1, ms);
}

int main(int argc, char **argv)
{
    (void)argc;
    int ms = atoi(argv[2]);
    struct epoll_event event = {.events = EPOLLIN};
    set = epoll_create1(0);
    require(epoll_ctl(set, EPOLL_CTL_ADD, 0, &event) == 0, "epoll_ctl");
    say("ready");
    for (;;) {
        long begin = now_ms();
        int found = wait_once(argv[1], ms);
        long took = now_ms() - begin;
        rounds++;
        if (found < 0)
            interrupted++;
        if (ms >= 0 && took - ms > late_ms)
            late_ms = took - ms;
        if (found > 0) {
            char line[64];
            if (read(0, line, sizeof line) <= 0)
                return 0;
            say("rounds %d interrupted %d late %d", rounds, interrupted, late_ms);
        }
    }
}
