/* System calls without libc: errno untouched, no vector register used, callable where the stack is somebody else's. */
#ifndef SYSCALLS_H
#define SYSCALLS_H

#include <stdint.h>
#include <sys/syscall.h>

#define GENERAL_REGISTERS __attribute__((target("general-regs-only")))

GENERAL_REGISTERS __attribute__((always_inline)) static inline long
raw_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static inline long raw_madvise(uint64_t address, uint64_t size, int advice)
{
    return raw_syscall(SYS_madvise, (long)address, (long)size, advice, 0, 0, 0);
}

static inline long raw_munmap(uint64_t address, uint64_t size)
{
    return raw_syscall(SYS_munmap, (long)address, (long)size, 0, 0, 0, 0);
}

#endif
