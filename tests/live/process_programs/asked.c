/* Waits in a read of its own making, with known values in all registers, a blocked signal, an alternate stack and
 * an armed timer; answers every line with what it finds changed, and how many SIGUSR1 it has handled: "0 0". With an argument it
 * waits on a stack of its own. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>

struct seen {
    uint64_t general[12];
    uint32_t control, padding[7];
    uint8_t vectors[16][32];
} __attribute__((aligned(32)));

struct seen wanted, found;
int has_avx;
long guarded_read(int file, void *buffer, unsigned long size);

/* What a libc has for its handlers; the read stands beside it, in one text. */
__asm__(
    ".text\nown_restorer: mov $15, %rax\n syscall\n ud2\n"
    ".globl guarded_read\nguarded_read:\n"
    " push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
    " lea wanted(%rip), %rax\n"
    " mov %rdi, 48(%rax)\n mov %rsi, 56(%rax)\n mov %rdx, 64(%rax)\n"
    " mov 0(%rax), %rbx\n mov 8(%rax), %rbp\n mov 16(%rax), %r12\n mov 24(%rax), %r13\n"
    " mov 32(%rax), %r14\n mov 40(%rax), %r15\n mov 72(%rax), %r8\n mov 80(%rax), %r9\n mov 88(%rax), %r10\n"
    " ldmxcsr 96(%rax)\n cmpl $0, has_avx(%rip)\n je 1f\n"
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    " vmovdqu 128+32*\\n(%rax), %ymm\\n\n.endr\n jmp 2f\n1:\n"
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    " movdqu 128+32*\\n(%rax), %xmm\\n\n.endr\n2:\n"
    " mov $0, %eax\n syscall\n"
    " lea found(%rip), %rcx\n stmxcsr 96(%rcx)\n cmpl $0, has_avx(%rip)\n je 3f\n"
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    " vmovdqu %ymm\\n, 128+32*\\n(%rcx)\n.endr\n vzeroupper\n jmp 4f\n3:\n"
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
    " movdqu %xmm\\n, 128+32*\\n(%rcx)\n.endr\n4:\n"
    " mov %rbx, 0(%rcx)\n mov %rbp, 8(%rcx)\n mov %r12, 16(%rcx)\n mov %r13, 24(%rcx)\n mov %r14, 32(%rcx)\n"
    " mov %r15, 40(%rcx)\n mov %rdi, 48(%rcx)\n mov %rsi, 56(%rcx)\n mov %rdx, 64(%rcx)\n mov %r8, 72(%rcx)\n"
    " mov %r9, 80(%rcx)\n mov %r10, 88(%rcx)\n"
    " pushq $0x1f80\n ldmxcsr (%rsp)\n add $8, %rsp\n"
    " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

static volatile sig_atomic_t handled;

static void on_signal(int number)
{
    handled++;
}

static int count_changes(const sigset_t *mask, const stack_t *stack)
{
    sigset_t now;
    stack_t other;
    int changes = 0;

    for (int i = 0; i < 12; i++)
        changes += found.general[i] != wanted.general[i];
    changes += found.control != wanted.control;
    for (int i = 0; i < 16; i++)
        changes += memcmp(found.vectors[i], wanted.vectors[i], has_avx ? 32 : 16) != 0;
    sigprocmask(SIG_SETMASK, NULL, &now);
    sigaltstack(NULL, &other);
    for (int i = 1; i < 64; i++)
        changes += sigismember(mask, i) != sigismember(&now, i);
    return changes + (stack->ss_sp != other.ss_sp) + (stack->ss_size != other.ss_size);
}

static ucontext_t outside, inside;
static long size_read;
static char line[64];

static void read_here(void)
{
    size_read = guarded_read(0, line, sizeof line);
}

static long read_on_own_stack(void)
{
    static char room[1 << 14];

    getcontext(&inside);
    inside.uc_stack.ss_sp = room;
    inside.uc_stack.ss_size = sizeof room;
    inside.uc_link = &outside;
    makecontext(&inside, read_here, 0);
    swapcontext(&outside, &inside);
    return size_read;
}

int main(int argc, char **argv)
{
    static char room[1 << 16];
    stack_t stack = {room, 0, sizeof room};
    struct sigaction action = {.sa_handler = on_signal};
    struct itimerval far = {{0, 0}, {100000, 0}};
    sigset_t mask;

    has_avx = __builtin_cpu_supports("avx") != 0;
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &far, NULL);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    for (int i = 0; i < 12; i++)
        wanted.general[i] = 0x0101010101010101UL * (i + 3);
    wanted.control = 0x7f80;
    for (int i = 0; i < 16; i++)
        memset(wanted.vectors[i], 0x40 + i, 32);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        long size = argc > 1 ? read_on_own_stack() : guarded_read(0, line, sizeof line);
        int changes = count_changes(&mask, &stack);
        if (size == -4 && !changes)
            continue;
        if (size <= 0)
            return size != 0;
        printf("%d %d\n", changes, (int)handled);
        fflush(stdout);
    }
}
