/* One server, every kind of waiting. Arguments: MODE PORT [EARLY]: with EARLY version 2 tries to take clients and data
 * before its main loop, as a server that is busy loading does. */
#include "scenario.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/uio.h>

static int listener, set = -1;
static const char *mode;

static int is(const char *name)
{
    return strcmp(mode, name) == 0;
}

static void answer_datagram(int flags)
{
    char data[128];
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    ssize_t got = recvfrom(listener, data, sizeof data - 16, flags, (struct sockaddr *)&peer, &length);
    if (got <= 0)
        return;
    got += snprintf(data + got, 16, " v%d", VERSION);
    sendto(listener, data, got, 0, (struct sockaddr *)&peer, length);
}

static void take(void)
{
    if (is("udp") || is("udp-poll"))
        answer_datagram(MSG_DONTWAIT);
    else
        serve_one(listener);
}

__attribute__((noinline)) static void wait_for_work(void)
{
    if (is("poll") || is("udp-poll")) {
        struct pollfd entry = {.fd = listener, .events = POLLIN};
        if (poll(&entry, 1, -1) == 1)
            take();
    } else if (is("ppoll")) {
        struct pollfd entries[2] = {{.fd = -1}, {.fd = listener, .events = POLLIN}};
        struct timespec second = {5, 0};
        if (ppoll(entries, 2, &second, NULL) == 1 && entries[1].revents)
            take();
    } else if (is("select")) {
        fd_set read;
        FD_ZERO(&read);
        FD_SET(listener, &read);
        if (select(listener + 1, &read, NULL, NULL, NULL) == 1 && FD_ISSET(listener, &read))
            take();
    } else if (is("epoll")) {
        struct epoll_event event;
        if (epoll_wait(set, &event, 1, 1000) == 1)
            take();
    } else if (is("accept")) {
        serve_one(listener);
    } else if (is("udp")) {
        answer_datagram(0);
    } else {
        exit(4);
    }
}

static void look_early(void)
{
    struct pollfd entry = {.fd = listener, .events = POLLIN};
    require(poll(&entry, 1, 0) == 0 && entry.fd == listener, "early poll");
    fd_set read;
    FD_ZERO(&read);
    FD_SET(listener, &read);
    struct timeval nothing = {0, 0};
    require(select(listener + 1, &read, NULL, NULL, &nothing) == 0 && !FD_ISSET(listener, &read), "early select");
    int flags = fcntl(listener, F_GETFL);
    require(fcntl(listener, F_SETFL, flags | O_NONBLOCK) == 0, "F_SETFL");
    char data[16];
    if (is("udp") || is("udp-poll"))
        require(recv(listener, data, sizeof data, MSG_DONTWAIT) < 0 && errno == EAGAIN, "early recv");
    else
        require(accept4(listener, NULL, NULL, SOCK_NONBLOCK) < 0 && errno == EAGAIN, "early accept");
    require(fcntl(listener, F_SETFL, flags) == 0, "F_SETFL back");
    if (set >= 0) {
        struct epoll_event event;
        require(epoll_wait(set, &event, 1, 0) == 0, "early epoll");
        require(epoll_wait(set, &event, 1, 5) == 0, "early epoll with a timeout");
    }
    usleep(1000);
}

int main(int argc, char **argv)
{
    mode = argv[1];
    if (is("udp") || is("udp-poll")) {
        struct sockaddr_in address = local_address(atoi(argv[2]));
        listener = socket(AF_INET, SOCK_DGRAM, 0);
        require(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    } else {
        listener = listen_tcp(atoi(argv[2]));
    }
    if (is("epoll")) {
        set = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1234567890};
        require(epoll_ctl(set, EPOLL_CTL_ADD, listener, &event) == 0, "epoll_ctl");
        require(epoll_ctl(set, EPOLL_CTL_ADD, listener, &event) < 0 && errno == EEXIST, "epoll_ctl twice");
        event.events = EPOLLIN | EPOLLET;
        require(epoll_ctl(set, EPOLL_CTL_MOD, listener, &event) == 0, "epoll_ctl MOD");
    }
    if (VERSION == 2 && argc > 3)
        look_early();
    say("ready v%d", VERSION);
    for (;;)
        wait_for_work();
}
