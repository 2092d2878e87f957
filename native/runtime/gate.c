/* The commit gate: where the future waits, already let go by the tool, for the past to end.
 *
 * Exactly one version serves afterwards, whoever is killed at whatever moment. The tool's steps are
 *
 *   1  detach the future into the gate          (before: PTRACE_O_EXITKILL ends it with the tool)
 *   2  intent = ENDING; PING, answered: a future that was killed before this moment is noticed
 *   3  set the past's registers to exit_group(0)      <- the linearisation point
 *   4  intent = ENDED
 *   5  let the past run; when it stops in exit (PTRACE_EVENT_EXIT), send GO
 *
 * A process that was traced runs on by itself when its tracer dies, with the registers that were set last. So
 *   - tool dies before 3: the past runs on in its old registers and serves. The future sees the channel close: with
 *     no intent it exits at once; with ENDING it exits when the past has not shown that it is exiting in the grace
 *     time, without having touched anything.
 *   - tool dies after 3: the past runs exit_group, whose first effect is PF_EXITING (in /proc/PAST/stat) and whose
 *     last is the pidfd. With ENDED the future waits for it as long as it takes: the past can never serve again. With
 *     ENDING (killed between 3 and 4) it waits for PF_EXITING in the grace time, then likewise.
 *   - the past is killed from outside while the tool lives: the pidfd tells, the state here is whole, the future serves.
 *   - the future is killed before the PING: the tool sees it and lets the past go on. After 3 it is the serving
 *     version, and killing it is killing the service. Nothing can close the few microseconds between.
 *
 * The past may be large, and the pidfd is readable only after its memory is gone. GO spares clients that wait: at its
 * sender's stop the past has left user space for ever. Only record locks must wait for the very end.
 *
 * Nothing here may touch a vector register, libc's state or the red zone of the parked frame: raw system calls and
 * general registers only. All signals stay blocked until the end; what came in meanwhile is delivered when the mask is
 * restored, and if the parked system call would have been interrupted by it, it returns EINTR as it would have.
 */
#include "runtime.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

/* As gate.S pushes it. */
struct gate_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax, flags, rip;
};

/* The kernel's struct, not libc's. */
struct kernel_sigaction {
    uint64_t handler;
    uint64_t flags;
    uint64_t restorer;
    uint64_t mask;
};

enum event { EVENT_NONE, EVENT_ENDED, EVENT_GO, EVENT_ABANDON, EVENT_TOOL_DIED };

enum { EXIT_POLL_MS = 5, LOCK_ATTEMPTS = 200 };

void instar_gate_wait(struct gate_frame *frame);

GENERAL_REGISTERS static inline volatile struct instar_gate *gate(void)
{
    return &instar_runtime_state.gate;
}

GENERAL_REGISTERS __attribute__((noreturn)) static void leave(void)
{
    for (;;)
        raw_syscall(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}

GENERAL_REGISTERS static long poll_descriptors(struct pollfd *descriptors, long count, long timeout_ms)
{
    struct {
        long seconds, nanoseconds;
    } time = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};
    return raw_syscall(SYS_ppoll, (long)descriptors, count, timeout_ms < 0 ? 0 : (long)&time, 0, 8, 0);
}

GENERAL_REGISTERS static void tell_tool(char message)
{
    raw_syscall(SYS_sendto, instar_runtime_state.channel, (long)&message, 1, 0x4000 /* MSG_NOSIGNAL */, 0, 0);
}

/* Only a process itself may queue what the kernel or kill(2) would say (si_code >= 0, SI_TKILL): rt_sigqueueinfo(2).
 * All signals are blocked here, so it waits for the mask to be restored. */
GENERAL_REGISTERS static void queue_signal(const struct instar_gate_signal *signal)
{
    long number = *(const int32_t *)signal->info; /* si_signo */
    long self = raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
    long info = (long)signal->info;
    long result = signal->to_thread ? raw_syscall(SYS_rt_tgsigqueueinfo, self, self, number, info, 0, 0)
                                    : raw_syscall(SYS_rt_sigqueueinfo, self, number, info, 0, 0, 0);
    if (result < 0)
        tell_tool(INSTAR_MESSAGE_LOST);
}

/* What the tool says, its end closed included. */
GENERAL_REGISTERS static enum event read_channel(void)
{
    struct instar_gate_signal said;
    long got = raw_syscall(SYS_recvfrom, instar_runtime_state.channel, (long)&said, sizeof said,
                           0x40 /* MSG_DONTWAIT */, 0, 0);
    if (got == -EAGAIN || got == -EINTR)
        return EVENT_NONE;
    if (got <= 0)
        return EVENT_TOOL_DIED;
    if (said.message == INSTAR_MESSAGE_PING)
        tell_tool(INSTAR_MESSAGE_WAITING);
    if (said.message == INSTAR_MESSAGE_SIGNAL && got == sizeof said)
        queue_signal(&said);
    return said.message == INSTAR_MESSAGE_GO        ? EVENT_GO
           : said.message == INSTAR_MESSAGE_ABANDON ? EVENT_ABANDON
                                                    : EVENT_NONE;
}

/* The channel is asked first, to its last word: what the tool said or that it died weighs more than a past that ended
 * since. */
GENERAL_REGISTERS static enum event wait_for_event(void)
{
    struct pollfd descriptors[2] = {{.fd = instar_runtime_state.channel, .events = POLLIN},
                                    {.fd = gate()->pidfd, .events = POLLIN}};
    for (;;) {
        poll_descriptors(descriptors, 2, -1);
        enum event event = descriptors[0].revents ? read_channel() : EVENT_NONE;
        if (event != EVENT_NONE)
            return event;
        if (descriptors[1].revents && !descriptors[0].revents)
            return EVENT_ENDED;
    }
}

GENERAL_REGISTERS static bool wait_for_end(long timeout_ms)
{
    struct pollfd past = {.fd = gate()->pidfd, .events = POLLIN};
    while (poll_descriptors(&past, 1, timeout_ms) == -EINTR)
        ;
    return past.revents != 0;
}

/* Field 9 of /proc/PAST/stat, flags, has PF_EXITING (include/linux/sched.h) from the first step of exit on. The name
 * in field 2 may hold blanks and brackets: count from the last one. */
GENERAL_REGISTERS static bool past_is_exiting(void)
{
    char text[1024];
    long length = raw_syscall(SYS_pread64, gate()->stat, (long)text, sizeof text, 0, 0, 0);
    if (length == -ESRCH)
        return true;
    long at = length;
    while (at > 0 && text[at - 1] != ')')
        at--;
    int field = 2;
    uint64_t flags = 0;
    for (; at > 0 && at < length && field < 10; at++) {
        if (text[at] == ' ')
            field++;
        else if (field == 9 && text[at] >= '0' && text[at] <= '9')
            flags = flags * 10 + (uint64_t)(text[at] - '0');
    }
    return (flags & 0x4) != 0;
}

/* The tool died between writing ENDING and ENDED. */
GENERAL_REGISTERS static bool past_begins_to_end(void)
{
    for (long waited = 0; waited < (long)gate()->grace_ms; waited += EXIT_POLL_MS)
        if (wait_for_end(EXIT_POLL_MS) || past_is_exiting())
            return true;
    return false;
}

GENERAL_REGISTERS static void wait_for_past(void)
{
    enum event event = wait_for_event();
    if (event == EVENT_ABANDON)
        leave();
    if (event == EVENT_TOOL_DIED) {
        uint32_t intent = gate()->intent;
        if (intent == INSTAR_INTENT_NONE || (intent == INSTAR_INTENT_ENDING && !past_begins_to_end()))
            leave();
        wait_for_end(-1);
    }
    if (event == EVENT_GO && gate()->lock_count)
        wait_for_end(-1);
}

/* Record locks belong to a process: the past's went with it. Its close of files may come a little after its last
 * sign of life, so a lock is tried again for a moment. */
GENERAL_REGISTERS static void take_locks(void)
{
    const struct instar_lock *locks = (const struct instar_lock *)gate()->locks;
    for (uint32_t i = 0; i < gate()->lock_count; i++) {
        if (locks[i].type == INSTAR_LOCK_OWNER || locks[i].type == INSTAR_LOCK_OWNER_GROUP) {
            bool group = locks[i].type == INSTAR_LOCK_OWNER_GROUP;
            long self = raw_syscall(group ? SYS_getpgrp : SYS_getpid, 0, 0, 0, 0, 0, 0);
            raw_syscall(SYS_fcntl, locks[i].descriptor, F_SETOWN, group ? -self : self, 0, 0, 0);
            continue;
        }
        struct flock lock;
        lock.l_type = locks[i].type;
        lock.l_whence = 0; /* SEEK_SET */
        lock.l_start = locks[i].start;
        lock.l_len = locks[i].length;
        lock.l_pid = 0;
        for (int attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
            long result = raw_syscall(SYS_fcntl, locks[i].descriptor, F_SETLK, (long)&lock, 0, 0, 0);
            if (result != -EAGAIN && result != -EACCES)
                break;
            poll_descriptors(0, 0, EXIT_POLL_MS);
        }
    }
}

GENERAL_REGISTERS static void close_descriptors(void)
{
    raw_syscall(SYS_close, gate()->pidfd, 0, 0, 0, 0, 0);
    if (gate()->stat >= 0)
        raw_syscall(SYS_close, gate()->stat, 0, 0, 0, 0, 0);
    raw_syscall(SYS_close, instar_runtime_state.channel, 0, 0, 0, 0, 0);
    gate()->pidfd = gate()->stat = instar_runtime_state.channel = -1;
}

GENERAL_REGISTERS static void unmap_scratch(void)
{
    uint64_t address = instar_runtime_state.scratch;
    instar_runtime_state.scratch = 0;
    gate()->locks = gate()->lock_count = 0;
    while (address) {
        const uint64_t *head = (const uint64_t *)address; /* struct scratch in memory.c: next, size */
        uint64_t next = head[0];
        raw_syscall(SYS_munmap, (long)address, (long)head[1], 0, 0, 0, 0);
        address = next;
    }
}

/* ---- signals that came in at the gate ---- */

/* Calls that a handler interrupts even under SA_RESTART (signal(7)). */
GENERAL_REGISTERS static bool never_restarts(uint64_t number)
{
    switch (number) {
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_pause:
    case SYS_rt_sigsuspend:
    case SYS_rt_sigtimedwait:
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_msgrcv:
    case SYS_msgsnd:
    case SYS_io_getevents:
        return true;
    }
    return false;
}

/* Would one of the pending signals have made the parked call return EINTR? */
GENERAL_REGISTERS static bool is_interrupted(uint64_t number, uint64_t mask)
{
    uint64_t pending = 0;
    raw_syscall(SYS_rt_sigpending, (long)&pending, 8, 0, 0, 0, 0);
    pending &= ~mask;
    for (int signal = 1; signal <= 64; signal++) {
        if (!(pending >> (signal - 1) & 1))
            continue;
        struct kernel_sigaction action = {0, 0, 0, 0};
        raw_syscall(SYS_rt_sigaction, signal, 0, (long)&action, 8, 0, 0);
        if (action.handler > 1 && (!(action.flags & SA_RESTART) || never_restarts(number)))
            return true;
    }
    return false;
}

/* The parked frame is about to run `syscall` with its number in rax: if a handler would have broken into it, step
 * over it with -EINTR. */
GENERAL_REGISTERS static void interrupt_parked_call(struct gate_frame *frame, uint64_t mask)
{
    const unsigned char *code = (const unsigned char *)frame->rip;
    if (code[0] != 0x0f || code[1] != 0x05 || !is_interrupted(frame->rax, mask))
        return;
    frame->rax = (uint64_t)-EINTR;
    frame->rip += 2;
}

GENERAL_REGISTERS void instar_gate_wait(struct gate_frame *frame)
{
    uint64_t all = ~UINT64_C(0);
    raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, 0, 8, 0, 0);
    gate()->phase = INSTAR_GATE_WAITING;
    tell_tool(INSTAR_MESSAGE_WAITING);
    wait_for_past();
    take_locks();
    gate()->phase = INSTAR_GATE_PASSED;
    tell_tool(INSTAR_MESSAGE_SERVING);
    close_descriptors();
    unmap_scratch();
    uint64_t mask = gate()->signal_mask;
    interrupt_parked_call(frame, mask);
    raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, 8, 0, 0);
}
