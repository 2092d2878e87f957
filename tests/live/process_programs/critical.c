/* A restartable sequence (rseq(2)) that must be aborted when anything ran in between: it reads a counter, spins, and
 * reads it again. Each line on stdin is answered with: sequences committed, aborted, broken. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/rseq.h>
#include <unistd.h>

static volatile long counter, committed, aborted, broken;

long poke(void)
{
    return ++counter;
}

static void sequence(void)
{
    struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);

    __asm__ volatile goto(".pushsection __rseq_cs, \"aw\"; .balign 32; 5: .long 0, 0;"
                          ".quad 1f, 2f - 1f, 4f; .popsection;"
                          "leaq 5b(%%rip), %%rax; movq %%rax, %c[cs](%[area]);"
                          "1: movq %[counter], %%rdx; movl $20000, %%ecx;"
                          "3: decl %%ecx; jnz 3b; cmpq %[counter], %%rdx; jne 6f;"
                          "2: jmp 7f;"
                          ".byte 0x0f, 0xb9, 0x3d; .long 0x53053053;"
                          "4: jmp %l[abort]; 6: jmp %l[wrong]; 7:"
                          :
                          : [area] "r"(area), [cs] "i"(offsetof(struct rseq, rseq_cs)), [counter] "m"(counter)
                          : "memory", "cc", "rax", "rcx", "rdx"
                          : abort, wrong);
    committed++;
    return;
abort:
    aborted++;
    return;
wrong:
    broken++;
}

int main(void)
{
    char line[16];

    fcntl(0, F_SETFL, O_NONBLOCK);
    printf("ready %p\n", (void *)poke);
    fflush(stdout);
    for (;;) {
        ssize_t count = read(0, line, sizeof line);

        if (count == 0)
            return 0;
        if (count > 0) {
            printf("%ld %ld %ld\n", committed, aborted, broken);
            fflush(stdout);
        }
        for (int i = 0; i < 100; i++)
            sequence();
    }
}
