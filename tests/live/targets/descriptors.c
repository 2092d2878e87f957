/* A past with one of every descriptor instar carries. It prints what it has, then waits for input in epoll_wait, as the
 * future does; `check` makes whichever process reads it use everything and say what came of it.
 *
 * argv[1]: "past" opens everything; "future" opens nothing but what its own start-up would (an epoll set). The numbers
 * are those that the past's table has after its start-up; both know them from here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    EPOLL = 10, LISTENER, ACCEPTED, CLIENT, UDP, PIPE_OUT, PIPE_IN, REGULAR, EVENT, TIMER, SIGNALS, NOTIFY, MEMORY,
    INNER_EPOLL, PAIR_A, PAIR_B, EPOLL_TWIN, BORROWED, ONE_SHOT_A, ONE_SHOT_B, HIGH = 900
};

static void check(int ok, const char *what)
{
    if (!ok) {
        dprintf(2, "descriptors: %s: %s\n", what, strerror(errno));
        abort();
    }
}

static void put(int from, int to, int cloexec)
{
    check(dup3(from, to, cloexec ? O_CLOEXEC : 0) == to, "dup3");
    if (from != to)
        close(from);
}

static void put_pair(const int *pair, int first, int second)
{
    int upper = fcntl(pair[1], F_DUPFD, 1000);
    close(pair[1]);
    put(pair[0], first, 0);
    put(upper, second, 1);
}

static void add(int epoll, int descriptor, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data = {.u64 = data}};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0, "epoll_ctl");
}

static void open_all(const char *path)
{
    int pair[2];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    put(socket(AF_INET, SOCK_STREAM, 0), LISTENER, 1);
    check(bind(LISTENER, (struct sockaddr *)&address, sizeof address) == 0 && listen(LISTENER, 5) == 0, "listen");
    getsockname(LISTENER, (struct sockaddr *)&address, &length);
    put(socket(AF_INET, SOCK_STREAM, 0), CLIENT, 0);
    check(connect(CLIENT, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    put(accept4(LISTENER, NULL, NULL, SOCK_NONBLOCK), ACCEPTED, 1);
    check(write(CLIENT, "tcp", 3) == 3, "tcp");
    put(socket(AF_INET, SOCK_DGRAM, 0), UDP, 0);
    address.sin_port = 0;
    check(bind(UDP, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    check(pipe(pair) == 0, "pipe");
    put_pair(pair, PIPE_OUT, PIPE_IN);
    check(write(PIPE_IN, "pipe", 4) == 4, "pipe");
    put(open(path, O_RDWR | O_CREAT | O_APPEND, 0600), REGULAR, 0);
    check(write(REGULAR, "0123456789", 10) == 10 && lseek(REGULAR, 4, SEEK_SET) == 4, "file");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 5};
    check(fcntl(REGULAR, F_SETLK, &lock) == 0, "lock");
    put(eventfd(7, EFD_NONBLOCK), EVENT, 0);
    put(timerfd_create(CLOCK_MONOTONIC, 0), TIMER, 1);
    struct itimerspec far = {.it_value = {1000, 0}};
    check(timerfd_settime(TIMER, 0, &far, NULL) == 0, "timerfd");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    put(signalfd(-1, &set, 0), SIGNALS, 0);
    put(inotify_init1(IN_NONBLOCK), NOTIFY, 0);
    check(inotify_add_watch(NOTIFY, path, IN_MODIFY) == 1, "inotify");
    put(memfd_create("memory", 0), MEMORY, 0);
    check(write(MEMORY, "memfd", 5) == 5, "memfd");
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
    put_pair(pair, PAIR_A, PAIR_B);
    put(dup(EVENT), HIGH, 1);
    check(fcntl(UDP, F_SETOWN, getpid()) == 0 && fcntl(UDP, F_SETFL, O_ASYNC) == 0, "owner");
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
    put_pair(pair, ONE_SHOT_A, ONE_SHOT_B);
}

static void register_all(void)
{
    put(epoll_create1(0), INNER_EPOLL, 1);
    add(EPOLL, 0, EPOLLIN, 1000);
    add(EPOLL, LISTENER, EPOLLIN, 0xffffffff0000000bu);
    add(EPOLL, UDP, EPOLLIN | EPOLLEXCLUSIVE, 3);
    add(EPOLL, EVENT, EPOLLET, 4); /* no event asked for */
    add(EPOLL, TIMER, EPOLLIN | EPOLLONESHOT, 5);
    add(EPOLL, SIGNALS, EPOLLIN, 6);
    add(EPOLL, INNER_EPOLL, EPOLLIN, 7);
    add(INNER_EPOLL, PAIR_A, EPOLLIN | EPOLLET, 8);
    /* Registered under a number that is closed since; its file lives on as PAIR_B. */
    check(dup2(PAIR_B, BORROWED) == BORROWED, "dup2");
    add(EPOLL, BORROWED, EPOLLIN, 9);
    close(BORROWED);
    /* A one-shot that has fired. */
    int apart = epoll_create1(EPOLL_CLOEXEC);
    put(apart, EPOLL_TWIN, 1);
    add(EPOLL_TWIN, ONE_SHOT_A, EPOLLOUT | EPOLLONESHOT | EPOLLET, 10);
    struct epoll_event event;
    check(epoll_wait(EPOLL_TWIN, &event, 1, 0) == 1, "one-shot");
    add(EPOLL_TWIN, ONE_SHOT_B, EPOLLIN | EPOLLONESHOT, 11);
}

static void show(const char *what, long value)
{
    dprintf(1, "%s=%ld ", what, value);
}

static void use_all(void)
{
    char buffer[64] = "";
    struct epoll_event events[16];
    uint64_t number = 0;
    show("accepted", read(ACCEPTED, buffer, 64));
    check(memcmp(buffer, "tcp", 3) == 0, "tcp content");
    show("again", read(ACCEPTED, buffer, 64) < 0 && errno == EAGAIN);
    show("pipe", read(PIPE_OUT, buffer, 64));
    show("file", read(REGULAR, buffer, 3) == 3 && memcmp(buffer, "456", 3) == 0);
    show("memfd", pread(MEMORY, buffer, 64, 0));
    show("event", read(EVENT, &number, 8) == 8 ? (long)number : -1);
    struct itimerspec left;
    timerfd_gettime(TIMER, &left);
    show("timer", left.it_value.tv_sec > 900 && left.it_value.tv_sec <= 1000);
    show("cloexec", fcntl(LISTENER, F_GETFD) == FD_CLOEXEC && fcntl(UDP, F_GETFD) == 0 && fcntl(HIGH, F_GETFD) == FD_CLOEXEC);
    check(write(HIGH, &(uint64_t){5}, 8) == 8 && read(EVENT, &number, 8) == 8, "dup of eventfd");
    show("shared", (long)number);
    show("inner", epoll_wait(INNER_EPOLL, events, 16, 0));
    show("silent", epoll_wait(EPOLL_TWIN, events, 16, 0));
    check(write(PAIR_B, "x", 1) == 1, "pair");
    show("edge", epoll_wait(INNER_EPOLL, events, 16, 0) == 1 && events[0].data.u64 == 8);
    show("edge2", epoll_wait(INNER_EPOLL, events, 16, 0));
    check(write(ONE_SHOT_A, "x", 1) == 1 && write(ONE_SHOT_B, "x", 1) == 1, "pair");
    show("armed", epoll_wait(EPOLL_TWIN, events, 16, 0) == 1 && events[0].data.u64 == 11);
    show("spent", epoll_wait(EPOLL_TWIN, events, 16, 0));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 5};
    pid_t child = fork(); /* another process sees the lock as ours */
    if (child == 0) {
        fcntl(REGULAR, F_GETLK, &lock);
        _exit(lock.l_type == F_WRLCK && lock.l_pid == getppid() ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    show("lock", status == 0);
    show("owner", fcntl(UDP, F_GETOWN) == getpid() && fcntl(UDP, F_GETFL) & O_ASYNC);
    dprintf(1, "\n");
    check(write(PAIR_A, "y", 1) == 1, "pair"); /* event 9 */
}

int main(int argc, char **argv)
{
    char line[64];
    sigset_t set;
    signal(SIGIO, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    put(epoll_create1(EPOLL_CLOEXEC), EPOLL, 1);
    if (strcmp(argv[1], "past") == 0) {
        open_all(argv[2]);
        register_all();
    }
    dprintf(1, "ready\n");
    for (;;) {
        struct epoll_event event;
        int got = epoll_wait(EPOLL, &event, 1, -1);
        if (got == 1 && event.data.u64 != 1000) {
            dprintf(1, "event %lx\n", (long)event.data.u64);
            if (event.data.u64 == 6) {
                struct signalfd_siginfo info;
                check(read(SIGNALS, &info, sizeof info) == sizeof info, "signalfd");
            } else if (event.data.u64 == 9)
                check(read(PAIR_B, line, 1) == 1, "borrowed");
            continue;
        }
        ssize_t length = read(0, line, sizeof line);
        if (length <= 0)
            return 0;
        if (line[0] == 'c')
            use_all();
        else
            dprintf(1, "%.*s %d\n", (int)length - 1, line, (int)getpid());
    }
}
