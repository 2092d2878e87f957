/* Functions to be called from outside, and a loop that notices when any register of it was changed.
 * argv[1]: "idle" waits in read; "busy" computes and checks itself; each line on stdin is answered with the counters. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile long handled, last_value, mistakes, rounds;

long add_eight(long a, long b, long c, long d, long e, long f, long g, long h)
{
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
}

/* Leaves nothing of the caller-saved registers as it was. */
long clobber(void)
{
    __asm__ volatile("pxor %%xmm0,%%xmm0; pxor %%xmm1,%%xmm1; pxor %%xmm2,%%xmm2; pxor %%xmm3,%%xmm3;"
                     "pxor %%xmm4,%%xmm4; pxor %%xmm5,%%xmm5; pxor %%xmm6,%%xmm6; pxor %%xmm7,%%xmm7;"
                     "pxor %%xmm8,%%xmm8; pxor %%xmm9,%%xmm9; pxor %%xmm10,%%xmm10; pxor %%xmm15,%%xmm15;"
                     "fldz; fldpi; xor %%ecx,%%ecx; xor %%r8d,%%r8d; xor %%r11d,%%r11d; std; cld" ::
                         : "memory", "rcx", "r8", "r11");
    return 77;
}

/* rsp must be 16-byte aligned before the call: movaps faults otherwise. */
long aligned(void)
{
    char room[32] __attribute__((aligned(16)));

    __asm__ volatile("movaps %%xmm0, %0" : "=m"(room));
    return (long)room & 15;
}

long crash(void)
{
    *(volatile int *)8 = 1;
    return 0;
}

long hang(void)
{
    for (;;)
        __asm__ volatile("pause");
}

long many_calls(long count)
{
    for (long i = 0; i < count; i++)
        getppid();
    return count;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    handled++;
    last_value = info->si_value.sival_int;
}

static void work(void)
{
    double x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    long a = 1, b = 2, c = 3, d = 5;

    for (int i = 0; i < 1000; i++) {
        for (int k = 0; k < 8; k++)
            x[k] = x[k] * 1.0 + 0.0;
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d)::"memory");
    }
    for (int k = 0; k < 8; k++)
        mistakes += x[k] != k + 1;
    /* The red zone and registers across a stretch without memory. */
    __asm__ volatile("movq $0x1234567, -120(%%rsp); movq $0x1234567, -8(%%rsp); movq $99, %%rax;"
                     "cvtsi2sd %%rax, %%xmm9; mov $400000, %%ecx; 1: dec %%ecx; jnz 1b; cvtsd2si %%xmm9, %%rax;"
                     "cmp $99, %%rax; je 2f; incq %0; 2: cmpq $0x1234567, -120(%%rsp); je 3f; incq %0;"
                     "3: cmpq $0x1234567, -8(%%rsp); je 4f; incq %0; 4:"
                     : "+m"(mistakes)::"rax", "rcx", "xmm9", "memory", "cc");
    mistakes += a != 1 || b != 2 || c != 3 || d != 5;
    rounds++;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    char line[64];
    int busy = argc > 1 && !strcmp(argv[1], "busy");

    for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
        sigaction(number, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGTRAP, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    if (argc > 2 && !strcmp(argv[2], "ignore-trap"))
        signal(SIGTRAP, SIG_IGN);
    printf("ready %p %p %p %p %p %p\n", (void *)add_eight, (void *)clobber, (void *)aligned, (void *)crash,
           (void *)hang, (void *)many_calls);
    fflush(stdout);
    if (busy)
        fcntl(0, F_SETFL, O_NONBLOCK);
    for (;;) {
        ssize_t count = read(0, line, sizeof line);

        if (count == 0)
            return 0;
        if (count > 0 || errno != EAGAIN) {
            printf("%ld %ld %ld %ld %d\n", handled, last_value, mistakes, rounds, count < 0 ? errno : 0);
            fflush(stdout);
        }
        if (busy)
            work();
    }
}
