/* An epoll server with one heap block for each connection, whose pointer is the epoll cookie. A client sends a
 * byte and gets back one byte, the number of its requests so far (modulo 256). Argument: the port. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct connection {
    int fd;
#if VERSION >= 2
    uint64_t requests;
    char label[24];
    uint32_t added;
#else
    uint32_t requests;
    char label[24];
#endif
    struct connection *next;
};

static struct connection *connections;
static int listener, poller;
static long total;

static void watch(struct connection *c) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event))
        abort();
}

static void admit(void) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        snprintf(c->label, sizeof c->label, "connection %ld", total++);
        c->next = connections;
        connections = c;
        watch(c);
    }
}

static void answer(struct connection *c) {
    char bytes[64];
    ssize_t size = read(c->fd, bytes, sizeof bytes);
    if (size <= 0) {
        epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
        close(c->fd);
        c->fd = -1;
        return;
    }
    for (ssize_t i = 0; i < size; i++)
        bytes[i] = (char)++c->requests;
    if (write(c->fd, bytes, (size_t)size) != size)
        abort();
}

static void serve(void) {
    struct epoll_event events[256];
    for (;;) {
        int ready = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < ready; i++)
            if (events[i].data.ptr)
                answer(events[i].data.ptr);
            else
                admit();
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN};
    int on = 1;
    address.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("bind");
        return 1;
    }
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    serve();
}
