/* Waits on a set of descriptors that grows while it runs, in the way that argv[1] names: poll, ppoll, select, epoll.
 * A line "open PATH" on standard input adds a FIFO to the set, "tick" asks for one timeout of 2 s; every other line,
 * from wherever it comes, is answered with "KIND: LINE". What the waiting call is given lives in memory that start-up
 * made or on the stack, so that an update that forgets its arguments waits for the wrong things. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define ROOM 16

static const char *kind;
static struct pollfd *entries;
static struct epoll_event *events;
static int entry_count;
static int epoll_set = -1;
static bool wants_tick;

static void add(int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};

    entries[entry_count++] = (struct pollfd){.fd = descriptor, .events = POLLIN};
    if (epoll_set >= 0)
        epoll_ctl(epoll_set, EPOLL_CTL_ADD, descriptor, &event);
}

static void serve(int descriptor)
{
    char line[256];
    ssize_t size = read(descriptor, line, sizeof line - 1);

    if (size <= 0)
        exit(0);
    line[size] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "open ", 5) == 0)
        add(open(line + 5, O_RDWR | O_NONBLOCK));
    else if (strcmp(line, "tick") == 0)
        wants_tick = true;
    dprintf(STDOUT_FILENO, "%s: %s\n", kind, line);
}

static void timed_out(void)
{
    wants_tick = false;
    dprintf(STDOUT_FILENO, "%s: time\n", kind);
}

static void wait_with_poll(void)
{
    int ready = poll(entries, (nfds_t)entry_count, wants_tick ? 2000 : -1);

    if (ready == 0)
        timed_out();
    for (int index = 0; index < entry_count && ready > 0; index++)
        if (entries[index].revents != 0)
            serve(entries[index].fd);
}

static void wait_with_ppoll(void)
{
    struct timespec limit = {.tv_sec = 2};
    int ready = ppoll(entries, (nfds_t)entry_count, wants_tick ? &limit : NULL, NULL);

    if (ready == 0)
        timed_out();
    for (int index = 0; index < entry_count && ready > 0; index++)
        if (entries[index].revents != 0)
            serve(entries[index].fd);
}

static void wait_with_select(void)
{
    struct timeval limit = {.tv_sec = 2};
    int highest = 0, ready;
    fd_set set;

    FD_ZERO(&set);
    for (int index = 0; index < entry_count; index++) {
        FD_SET(entries[index].fd, &set);
        highest = entries[index].fd > highest ? entries[index].fd : highest;
    }
    ready = select(highest + 1, &set, NULL, NULL, wants_tick ? &limit : NULL);
    if (ready == 0)
        timed_out();
    for (int index = entry_count - 1; index >= 0 && ready > 0; index--)
        if (FD_ISSET(entries[index].fd, &set))
            serve(entries[index].fd);
}

static void wait_with_epoll(void)
{
    int ready = epoll_wait(epoll_set, events, ROOM, wants_tick ? 2000 : -1);

    if (ready == 0)
        timed_out();
    for (int index = 0; index < ready; index++)
        serve(events[index].data.fd);
}

int main(int argc, char **argv)
{
    kind = argc > 1 ? argv[1] : "poll";
    entries = calloc(ROOM, sizeof *entries);
    events = calloc(ROOM, sizeof *events);
    if (strcmp(kind, "epoll") == 0)
        epoll_set = epoll_create1(0);
    add(STDIN_FILENO);
    dprintf(STDOUT_FILENO, "ready\n");
    for (;;) {
        if (strcmp(kind, "poll") == 0)
            wait_with_poll();
        else if (strcmp(kind, "ppoll") == 0)
            wait_with_ppoll();
        else if (strcmp(kind, "select") == 0)
            wait_with_select();
        else
            wait_with_epoll();
    }
}
