/* Opens one of everything and says which number is what. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void say(const char *name, int number)
{
    printf(" %s=%d", name, number);
}

static int add(int epoll, int number, unsigned events, unsigned long long data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};

    return epoll_ctl(epoll, EPOLL_CTL_ADD, number, &event);
}

static void files(const char *directory)
{
    char path[4096];
    int file, gone;

    snprintf(path, sizeof path, "%s/file", directory);
    file = open(path, O_RDWR | O_CREAT | O_APPEND, 0600);
    dprintf(file, "some text\n");
    lseek(file, 3, SEEK_SET);
    flock(file, LOCK_EX);
    say("file", file);
    snprintf(path, sizeof path, "%s/gone", directory);
    gone = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    unlink(path);
    say("gone", gone);
    say("directory", open(directory, O_RDONLY | O_DIRECTORY));
    say("device", open("/dev/null", O_WRONLY | O_NONBLOCK));
    say("memfd", memfd_create("cache", 0));
}

static void anonymous(void)
{
    struct itimerspec times = {{2, 500}, {100, 0}};
    int ends[2], epoll = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    int event = eventfd(7, EFD_SEMAPHORE), notify = inotify_init1(IN_NONBLOCK), master, slave;
    sigset_t set;

    pipe2(ends, O_NONBLOCK);
    say("pipe", ends[0]);
    timerfd_settime(timer, 0, &times, NULL);
    say("timerfd", timer);
    say("eventfd", event);
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    say("signalfd", signalfd(-1, &set, 0));
    say("watch", inotify_add_watch(notify, "/", IN_CREATE));
    say("inotify", notify);
    add(epoll, ends[0], EPOLLIN | EPOLLET, 0x123456789abcdef0);
    add(epoll, event, EPOLLIN | EPOLLONESHOT, 42);
    say("epoll", epoll);
    say("pidfd", syscall(SYS_pidfd_open, getpid(), 0));
    openpty(&master, &slave, NULL, NULL, NULL);
    say("terminal", slave);
}

static void sockets(const char *directory)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t length = sizeof any;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    int local = socket(AF_UNIX, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0), pair[2];

    bind(listener, (struct sockaddr *)&any, sizeof any);
    listen(listener, 5);
    getsockname(listener, (struct sockaddr *)&any, &length);
    connect(client, (struct sockaddr *)&any, sizeof any);
    say("listener", listener);
    say("client", client);
    say("port", ntohs(any.sin_port));
    snprintf(name.sun_path, sizeof name.sun_path, "%s/socket", directory);
    bind(local, (struct sockaddr *)&name, sizeof name);
    listen(local, 5);
    say("local", local);
    any.sin_port = 0;
    bind(udp, (struct sockaddr *)&any, sizeof any);
    say("udp", udp);
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
    say("pair", pair[0]);
}

int main(int argc, char **argv)
{
    struct sigevent notification = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    struct itimerval real = {{1, 0}, {1000, 0}};
    struct itimerspec times = {{5, 0}, {500, 0}};
    timer_t timer;
    char byte;

    notification.sigev_value.sival_int = 99;
    timer_create(CLOCK_REALTIME, &notification, &timer);
    timer_settime(timer, 0, &times, NULL);
    setitimer(ITIMER_REAL, &real, NULL);
    printf("ready");
    files(argv[1]);
    anonymous();
    sockets(argv[1]);
    printf("\n");
    fflush(stdout);
    return read(0, &byte, 1) < 0;
}
