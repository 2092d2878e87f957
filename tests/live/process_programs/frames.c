/* Stops in read() below many kinds of frames: argv[1] is "deep", "callback", "signal" (on an alternate stack), "spin"
 * (in the vDSO), "alloca", "noreturn" or
 * "first" (a fault in the first instruction of a function). */
#include <alloca.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#ifdef __clang__
#undef NOINLINE
#define NOINLINE __attribute__((noinline))
#endif

static volatile long sink;
static const char *mode;

NOINLINE long bottom(long a)
{
    char byte;

    printf("ready\n");
    fflush(stdout);
    sink += read(0, &byte, 1) + a;
    return sink;
}

/* Keeps many values alive across the call, so that callee-saved registers are pushed. */
NOINLINE long busy(long a, long b, long c, long d, long e, long f)
{
    long g = a * b + sink, h = b * c + sink, i = c * d + sink, j = d * e + sink, k = e * f + sink;

    sink += bottom(a + g);
    return a + b + c + d + e + f + g + h + i + j + k;
}

NOINLINE long sized(long count)
{
    char *room = alloca(count);

    memset(room, 7, count);
    sink += busy(count, 1, 2, 3, 4, room[count / 2]);
    return room[0] + sink;
}

NOINLINE long recurse(long depth, long a, long b)
{
    if (depth == 0)
        return sized(1000 + a);
    sink += recurse(depth - 1, a + 1, b * 3) + b;
    return sink + a;
}

static int compare(const void *left, const void *right)
{
    static int first = 1;

    if (first) {
        first = 0;
        sink += recurse(3, 1, 2);
    }
    return *(const int *)left - *(const int *)right;
}

static void on_signal(int number)
{
    sink += recurse(2, number, 4);
}

NOINLINE void raise_here(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};

    sigaltstack(&stack, NULL);
    sigaction(SIGSEGV, &action, NULL);
    *(volatile int *)16 = 1;
}

/* The rules before the first instruction belong to another function and are quite different. */
__asm__(".text; .type before, @function; before: .cfi_startproc; .cfi_def_cfa_offset 4096; nop; ud2; .cfi_endproc;"
        ".type faulting, @function; faulting: .cfi_startproc; movl $1, 16; ret; .cfi_endproc;");
void faulting(void);

NOINLINE void fault_first(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGSEGV, &action, NULL);
    faulting();
    sink++;
}

NOINLINE void spin(void)
{
    struct timespec now;

    printf("ready\n");
    fflush(stdout);
    for (;;)
        sink += clock_gettime(CLOCK_MONOTONIC, &now);
}

NOINLINE __attribute__((noreturn)) void never(long a)
{
    sink += busy(a, 2, 3, 4, 5, 6);
    exit(0);
}

int main(int argc, char **argv)
{
    int numbers[] = {5, 3, 9, 1, 4, 8, 2};

    mode = argv[1];
    if (!strcmp(mode, "deep"))
        recurse(40, 1, 2);
    if (!strcmp(mode, "callback"))
        qsort(numbers, 7, sizeof *numbers, compare);
    if (!strcmp(mode, "signal"))
        raise_here();
    if (!strcmp(mode, "spin"))
        spin();
    if (!strcmp(mode, "first"))
        fault_first();
    if (!strcmp(mode, "alloca"))
        sized(strlen(mode) * 100);
    if (!strcmp(mode, "noreturn"))
        never(7);
    return sink;
}
