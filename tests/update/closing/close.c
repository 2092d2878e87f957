/* Answers each connection once and closes it. Whatever epoll reports must be open, and the connection that it was
 * registered for: "strange" counts what is not. The line "count" is answered with that, and by whom. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 256 };

struct place {
#ifdef NEXT
    long label;
#endif
    uint32_t connection; /* 0: closed */
};

static struct place places[MOST];
static uint32_t connections, strange;
static int epoll, listener;

static void watch(int descriptor, uint64_t cookie)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = cookie};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) != 0)
        exit(3);
}

static void accept_one(void)
{
    int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (descriptor < 0 || descriptor >= MOST)
        return;
    places[descriptor].connection = ++connections;
    watch(descriptor, (uint64_t)connections << 32 | (uint32_t)descriptor);
}

static void answer(int descriptor)
{
    char line[64], text[64];
    ssize_t length = read(descriptor, line, sizeof line);
    int size = snprintf(text, sizeof text, "%u strange events, version %d\n", strange,
                        sizeof(struct place) > 8 ? 2 : 1);
    if (length > 0 && write(descriptor, text, (size_t)size) != size)
        exit(4);
    places[descriptor].connection = 0;
    close(descriptor);
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    address.sin_port = htons((uint16_t)atoi(getenv("PORT")));
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0 ||
        bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 64) != 0)
        return 2;
    epoll = epoll_create1(0);
    watch(listener, (uint32_t)listener);
    for (;;) {
        struct epoll_event events[16];
        int count = epoll_wait(epoll, events, 16, -1);
        for (int i = 0; i < count; i++) {
            int descriptor = (int)(uint32_t)events[i].data.u64;
            if (descriptor == listener)
                accept_one();
            else if (places[descriptor].connection != events[i].data.u64 >> 32)
                strange++;
            else
                answer(descriptor);
        }
    }
}
