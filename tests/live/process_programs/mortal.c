/* Does, without an end, what makes life hard for a tracer: argv[1] is
 *   "children": forks children that exit at once (a storm of SIGCHLD, with a handler)
 *   "vfork":    vforks and executes itself as "exit"
 *   "exec":     executes itself again and again
 *   "exit":     exits with 0 at once
 *   "alarm":    computes under a 1 ms interval timer with a handler
 *   "die":      waits for a line, then exits with 3 after argv[2] microseconds of computing */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t handled;
static volatile long rounds;

static void on_signal(int number)
{
    handled++;
}

static void spin(long microseconds)
{
    struct timespec begin, now;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
        rounds++;
    } while ((now.tv_sec - begin.tv_sec) * 1000000 + (now.tv_nsec - begin.tv_nsec) / 1000 < microseconds);
}

static void ready(void)
{
    printf("ready\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct itimerval often = {{0, 1000}, {0, 1000}};
    char line[16];

    if (!strcmp(argv[1], "exit"))
        return 0;
    if (!strcmp(argv[1], "exec")) {
        if (argc == 2)
            ready();
        execl(argv[0], argv[0], "exec", "again", NULL);
    }
    ready();
    sigaction(SIGCHLD, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    if (!strcmp(argv[1], "alarm"))
        setitimer(ITIMER_REAL, &often, NULL);
    if (!strcmp(argv[1], "die")) {
        if (read(0, line, sizeof line) < 0)
            return 4;
        spin(atol(argv[2]));
        return 3;
    }
    for (;;) {
        if (!strcmp(argv[1], "children") && fork() == 0)
            _exit(0);
        if (!strcmp(argv[1], "vfork") && vfork() == 0) {
            execl(argv[0], argv[0], "exit", NULL);
            _exit(1);
        }
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        spin(100);
    }
}
