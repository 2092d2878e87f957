/* Timers and signal dispositions: the past arms and installs, the future only installs what its start-up installs. Both
 * then wait in read(0). Lines: `seen` prints counts per signal, `left` the remaining seconds of every timer, `timer`
 * makes a new POSIX timer, `gone ID` deletes one. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int seen[65];
static volatile long value;

/* In the past this handler is installed after start-up: the future has it only as a function. */
static void count_late(int number, siginfo_t *info, void *context)
{
    seen[number]++;
    value = (long)info->si_value.sival_ptr;
}

static void count(int number)
{
    seen[number]++;
}

static timer_t timers[8];

static void past_only(void)
{
    struct sigaction action = {.sa_sigaction = count_late, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(SIGRTMIN, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGQUIT, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{500, 0}, {1000, 500000}}, NULL);
    setitimer(ITIMER_PROF, &(struct itimerval){{0, 0}, {2000, 0}}, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_ptr = count};
    for (int i = 0; i < 6; i++)
        timer_create(CLOCK_MONOTONIC, &event, &timers[i]);
    timer_delete(timers[1]);
    timer_delete(timers[3]);
    event.sigev_notify = SIGEV_NONE;
    timer_create(CLOCK_REALTIME, &event, &timers[6]);
    timer_settime(timers[2], 0, &(struct itimerspec){{7, 0}, {3000, 0}}, NULL);
    timer_settime(timers[6], 0, &(struct itimerspec){{0, 0}, {4000, 0}}, NULL);
}

static void show_left(void)
{
    for (int which = 0; which < 3; which++) {
        struct itimerval left;
        getitimer(which, &left);
        printf("%ld/%ld ", left.it_value.tv_sec, left.it_interval.tv_sec);
    }
    for (long id = 0; id < 12; id++) {
        struct itimerspec left;
        if (timer_gettime((timer_t)id, &left) == 0)
            printf("%ld:%ld/%ld ", id, left.it_value.tv_sec, left.it_interval.tv_sec);
    }
    printf("\n");
}

static void show_seen(void)
{
    for (int i = 1; i < 65; i++)
        if (seen[i])
            printf("%d:%d ", i, seen[i]);
    printf("%s\n", value == 0 ? "" : value == (long)count ? "count" : "wrong");
}

int main(int argc, char **argv)
{
    char line[64];
    signal(SIGHUP, count);
    signal(SIGQUIT, count);
    if (strcmp(argv[1], "past") == 0)
        past_only();
    setlinebuf(stdout);
    printf("ready\n");
    for (;;) {
        ssize_t length = read(0, line, sizeof line - 1);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            return 0;
        line[length] = 0;
        if (strncmp(line, "left", 4) == 0)
            show_left();
        else if (strncmp(line, "seen", 4) == 0)
            show_seen();
        else if (strncmp(line, "now", 3) == 0) {
            timer_settime(timers[0], 0, &(struct itimerspec){{0, 0}, {0, 1}}, NULL);
            setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 1}}, NULL);
            while (!seen[SIGRTMIN] || !seen[SIGALRM])
                ;
            printf("now\n");
        } else if (strncmp(line, "timer", 5) == 0) {
            struct sigevent event = {.sigev_notify = SIGEV_NONE};
            timer_create(CLOCK_MONOTONIC, &event, &timers[7]);
            printf("%ld\n", (long)timers[7]);
        } else
            printf("what\n");
    }
}
