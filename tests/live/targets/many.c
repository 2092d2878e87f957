/* A past with argv[2] connected sockets in one epoll set (the other ends too); answers "sum" with how many of them
 * deliver a byte each. The future has only the empty set. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EPOLL = 3, FIRST = 10 };

int main(int argc, char **argv)
{
    int count = atoi(argv[2]), pair[2];
    char line[64];
    if (dup2(epoll_create1(0), EPOLL) != EPOLL)
        return 1;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 1000000};
    epoll_ctl(EPOLL, EPOLL_CTL_ADD, 0, &event);
    for (int i = 0; strcmp(argv[1], "past") == 0 && i < count; i++) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
            return 2;
        if (dup2(pair[1], FIRST + 2 * i + 1) < 0 || dup2(pair[0], FIRST + 2 * i) < 0)
            return 3;
        for (int j = 0; j < 2; j++)
            if (pair[j] < FIRST || pair[j] > FIRST + 2 * i + 1)
                close(pair[j]);
        event = (struct epoll_event){.events = EPOLLIN, .data.u64 = (uint64_t)i};
        if (epoll_ctl(EPOLL, EPOLL_CTL_ADD, FIRST + 2 * i, &event) < 0)
            return 4;
    }
    dprintf(1, "ready\n");
    for (;;) {
        int got = epoll_wait(EPOLL, &event, 1, -1);
        if (got != 1 || event.data.u64 != 1000000)
            continue;
        if (read(0, line, sizeof line) <= 0)
            return 0;
        for (int i = 0; i < count; i++)
            if (write(FIRST + 2 * i + 1, "x", 1) != 1)
                return 5;
        int sum = 0;
        struct epoll_event events[256];
        while ((got = epoll_wait(EPOLL, events, 256, 0)) > 0)
            for (int i = 0; i < got; i++)
                sum += read(FIRST + 2 * (int)events[i].data.u64, line, sizeof line) == 1;
        dprintf(1, "%d\n", sum);
    }
}
