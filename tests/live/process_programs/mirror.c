/* Says what it was started with, then waits; with "daemon" it forks twice first. */
#define _GNU_SOURCE
#include <dirent.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned long long set_bits(const sigset_t *set)
{
    unsigned long long bits = 0;

    for (int number = 1; number <= 64; number++)
        if (sigismember(set, number) == 1)
            bits |= 1ULL << (number - 1);
    return bits;
}

static void daemonise(void)
{
    if (fork() > 0)
        _exit(0);
    setsid();
    if (fork() > 0)
        _exit(0);
}

int main(int argc, char **argv)
{
    char directory[4096], byte;
    struct rlimit files;
    sigset_t blocked;
    mode_t mask = umask(0);

    if (argc > 1 && !strcmp(argv[1], "daemon"))
        daemonise();
    umask(mask);
    getrlimit(RLIMIT_NOFILE, &files);
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    printf("argc=%d\targ=%s\tenv=%s\tcwd=%s\tumask=%o\tfiles=%ld:%ld\tuid=%d\tgid=%d\tblocked=%llx\t", argc,
           argc > 1 ? argv[1] : "", getenv("MARK") ? getenv("MARK") : "", getcwd(directory, sizeof directory), mask,
           (long)files.rlim_cur, (long)files.rlim_max, (int)getuid(), (int)getgid(), set_bits(&blocked));
    printf("nice=%d\tsid=%d\tgroups=%d\tslack=%d\tnnp=%d\tpid=%d\tpolicy=%d\n", getpriority(PRIO_PROCESS, 0),
           getsid(0) == getpid(), getgroups(0, NULL), prctl(PR_GET_TIMERSLACK), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
           (int)getpid(), sched_getscheduler(0));
    fflush(stdout);
    return read(0, &byte, 1) < 0;
}
