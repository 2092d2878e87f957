/* Waits in the system call named by argv[1], for argv[2] milliseconds where it has a timeout, again and again, and
 * prints for each: result, errno, milliseconds it took, signals handled so far. SIGUSR1 interrupts, SIGUSR2 restarts. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t handled;
static int milliseconds, pipe_ends[2], sockets[2], epoll, semaphores, listener, queue;
static aio_context_t aio;

static void on_signal(int number)
{
    handled++;
}

static struct timespec length(void)
{
    return (struct timespec){milliseconds / 1000, milliseconds % 1000 * 1000000L};
}

static long wait_once(const char *call)
{
    struct epoll_event event;
    struct pollfd polled = {pipe_ends[0], POLLIN, 0};
    struct timespec time = length(), now;
    struct timeval tv = {milliseconds / 1000, milliseconds % 1000 * 1000};
    fd_set set;
    sigset_t signals;
    char buffer[64];
    int word = 0;

    FD_ZERO(&set);
    FD_SET(pipe_ends[0], &set);
    sigemptyset(&signals);
    if (!strcmp(call, "epoll_wait"))
        return epoll_wait(epoll, &event, 1, milliseconds);
    if (!strcmp(call, "epoll_pwait"))
        return epoll_pwait(epoll, &event, 1, milliseconds, &signals);
    if (!strcmp(call, "epoll_pwait2"))
        return syscall(SYS_epoll_pwait2, epoll, &event, 1, &time, NULL, 8);
    if (!strcmp(call, "poll"))
        return poll(&polled, 1, milliseconds);
    if (!strcmp(call, "ppoll"))
        return ppoll(&polled, 1, &time, &signals);
    if (!strcmp(call, "select")) {
        long result = syscall(SYS_select, pipe_ends[0] + 1, &set, NULL, NULL, &tv);
        if (result || (!tv.tv_sec && !tv.tv_usec))
            return result;
        errno = ERANGE; /* the time is over, but the program is told that some is left */
        return -1;
    }
    if (!strcmp(call, "pselect6"))
        return pselect(pipe_ends[0] + 1, &set, NULL, NULL, &time, &signals);
    if (!strcmp(call, "nanosleep"))
        return nanosleep(&time, NULL);
    if (!strcmp(call, "clock_nanosleep")) {
        errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
        return errno ? -1 : 0;
    }
    if (!strcmp(call, "absolute")) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        now.tv_sec += time.tv_sec + (now.tv_nsec + time.tv_nsec) / 1000000000;
        now.tv_nsec = (now.tv_nsec + time.tv_nsec) % 1000000000;
        errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &now, NULL);
        return errno ? -1 : 0;
    }
    if (!strcmp(call, "futex"))
        return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, NULL, 0);
    if (!strcmp(call, "rt_sigtimedwait")) {
        sigaddset(&signals, SIGURG);
        return sigtimedwait(&signals, NULL, &time);
    }
    if (!strcmp(call, "semtimedop")) {
        struct sembuf down = {0, -1, 0};
        return semtimedop(semaphores, &down, 1, &time);
    }
    if (!strcmp(call, "io_getevents")) {
        struct io_event done;
        return syscall(SYS_io_getevents, aio, 1, 1, &done, &time);
    }
    if (!strcmp(call, "read"))
        return read(pipe_ends[0], buffer, sizeof buffer);
    if (!strcmp(call, "recvfrom"))
        return recv(sockets[0], buffer, sizeof buffer, 0);
    if (!strcmp(call, "rcvtimeo")) {
        setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
        return recv(sockets[0], buffer, sizeof buffer, 0);
    }
    if (!strcmp(call, "accept"))
        return accept(listener, NULL, NULL);
    if (!strcmp(call, "pause"))
        return pause();
    if (!strcmp(call, "rt_sigsuspend"))
        return sigsuspend(&signals);
    if (!strcmp(call, "wait4"))
        return waitpid(-1, NULL, 0);
    if (!strcmp(call, "flock"))
        return flock(open("/proc/self/exe", O_RDONLY), LOCK_EX);
    if (!strcmp(call, "msgrcv"))
        return msgrcv(queue, buffer, 16, 0, 0);
    fprintf(stderr, "no such call: %s\n", call);
    exit(2);
}

static void prepare(const char *call)
{
    pid_t parent = getpid();
    struct sigaction interrupt = {.sa_handler = on_signal}, restart = {.sa_handler = on_signal};

    restart.sa_flags = SA_RESTART;
    unshare(CLONE_NEWIPC); /* where that is allowed, queues and semaphores go away with the process */
    sigaction(SIGUSR1, &interrupt, NULL);
    sigaction(SIGUSR2, &restart, NULL);
    if (getenv("BLOCKED")) { /* only the mask of ppoll, pselect, epoll_pwait and sigsuspend lets it in */
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, NULL);
    }
    epoll = epoll_create1(0);
    if (pipe(pipe_ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
        exit(3);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    listen(listener, 5);
    if (!strcmp(call, "semtimedop"))
        semaphores = semget(IPC_PRIVATE, 1, 0600);
    if (!strcmp(call, "msgrcv"))
        queue = msgget(IPC_PRIVATE, 0600);
    if (!strcmp(call, "io_getevents"))
        syscall(SYS_io_setup, 1, &aio);
    if (!strcmp(call, "flock")) {
        int held = open("/proc/self/exe", O_RDONLY);
        flock(held, LOCK_EX);
    }
    if (!strcmp(call, "wait4") && fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(0);
        close(1);
        for (;;)
            pause();
    }
}

static long elapsed_ms(const struct timespec *since)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000;
}

int main(int argc, char **argv)
{
    milliseconds = argc > 2 ? atoi(argv[2]) : -1;
    prepare(argv[1]);
    printf("ready %d\n", pipe_ends[1]);
    fflush(stdout);
    for (;;) {
        struct timespec begin;
        long result;

        clock_gettime(CLOCK_MONOTONIC, &begin);
        errno = 0;
        result = wait_once(argv[1]);
        printf("%ld %d %ld %d\n", result, result < 0 ? errno : 0, elapsed_ms(&begin), (int)handled);
        fflush(stdout);
    }
}
