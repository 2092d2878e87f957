#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum { NUMBERS = 4, WAITING = 9 };

STATE struct item *items[2];
STATE timer_t timer;
STATE int fills;

/* What came from outside: SIGRTMIN+1 with 0, 1, 2 ... from one sender, SIGRTMIN+2 with how many those were. */
STATE volatile sig_atomic_t came, told, wrong;
STATE int sender;

static void count(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (info->si_code != SI_QUEUE || info->si_pid == getpid() || (sender && info->si_pid != sender))
        wrong = __LINE__;
    sender = info->si_pid;
    if (number == SIGRTMIN + 1 && info->si_value.sival_int != came++)
        wrong = __LINE__;
    if (number == SIGRTMIN + 2)
        told = info->si_value.sival_int;
}

static sigset_t blocked_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    for (int i = 3; i < 7; i++)
        sigaddset(&set, SIGRTMIN + i);
    return set;
}

static bool is_waiting(int number)
{
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, number);
}

static void expire_timer(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 4};
    struct itimerspec soon = {.it_value.tv_nsec = 1000};

    event.sigev_value.sival_ptr = &items[1]->weight;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &soon, NULL);
    while (!is_waiting(SIGRTMIN + 4))
        ;
}

static void lose_child(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    while (waitpid(child, NULL, 0) < 0)
        ;
}

void fill(void)
{
    if (fills++)
        return;
    for (int i = 0; i < 2; i++) {
        items[i] = calloc(1, sizeof *items[i]);
        items[i]->weight = 100 + i;
    }
    sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_ptr = items[0]});
    for (int i = 0; i < NUMBERS; i++)
        sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i});
    raise(SIGRTMIN + 5);
    kill(getpid(), SIGRTMIN + 6);
    lose_child();
    expire_timer();
}

/* By system calls: libc's sigtimedwait makes SI_USER of SI_TKILL. */
static int take(siginfo_t *found)
{
    sigset_t set = blocked_signals();
    struct timespec now = {0, 0};
    int number = 0;

    while (number < WAITING && syscall(SYS_rt_sigtimedwait, &set, &found[number], &now, 8) > 0)
        number++;
    return number;
}

static void put_back(siginfo_t *found, int number)
{
    for (int i = 0; i < number; i++)
        if (found[i].si_code == SI_TKILL)
            syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), found[i].si_signo, &found[i]);
        else
            syscall(SYS_rt_sigqueueinfo, getpid(), found[i].si_signo, &found[i]);
}

/* Those for the thread come first, then the lowest number, then the oldest. */
static const char *judge(const siginfo_t *found)
{
    EXPECT(found[0].si_signo == SIGRTMIN + 5 && found[0].si_code == SI_TKILL && found[0].si_pid == getpid());
    EXPECT(found[1].si_signo == SIGCHLD && found[1].si_code == CLD_EXITED && found[1].si_status == 7);
    EXPECT(found[2].si_signo == SIGRTMIN + 3 && found[2].si_code == SI_QUEUE);
    EXPECT(found[2].si_value.sival_ptr == items[0] && found[2].si_pid == getpid());
    for (int i = 0; i < NUMBERS; i++)
        EXPECT(found[3 + i].si_value.sival_int == i && found[3 + i].si_pid == getpid());
    EXPECT(found[7].si_signo == SIGRTMIN + 4 && found[7].si_code == SI_TIMER);
    EXPECT(found[7].si_value.sival_ptr == &items[1]->weight);
    EXPECT(found[8].si_signo == SIGRTMIN + 6 && found[8].si_code == SI_USER && found[8].si_pid == getpid());
    return NULL;
}

const char *check(void)
{
    siginfo_t found[WAITING];
    int number = take(found);
    const char *complaint = number == WAITING ? judge(found) : "signals are missing";

    put_back(found, number);
    EXPECT(items[0]->weight == 100 && items[1]->weight == 101);
    EXPECT(wrong == 0);
    EXPECT(fills == 1 || (told > 0 && came == told));
    return complaint;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = count, .sa_flags = SA_RESTART | SA_SIGINFO};
    sigset_t set = blocked_signals();

    sigfillset(&action.sa_mask);
    sigaction(SIGRTMIN + 1, &action, NULL);
    sigaction(SIGRTMIN + 2, &action, NULL);
    sigprocmask(SIG_BLOCK, &set, NULL);
    scenario_loop();
    return 0;
}
