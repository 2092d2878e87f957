/* Waits with `syscall` instructions of its own; what it keeps in the argument registers stays in them. */
#include <stdio.h>
#include <sys/epoll.h>

int main(void)
{
    struct epoll_event event;
    int epoll = epoll_create1(0);
    register long timeout __asm__("r10");
    long result;

    puts("ready");
    fflush(stdout);
    timeout = 1500; /* after the last call of a function */
    __asm__ volatile("syscall"
                     : "=a"(result), "+r"(timeout)
                     : "a"(232L), "D"((long)epoll), "S"(&event), "d"(1L)
                     : "rcx", "r11", "memory");
    long kept = timeout;
    printf("%ld %ld\n", result, kept);
    return 0;
}
