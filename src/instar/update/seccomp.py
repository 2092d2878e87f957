"""The system calls that the worker may make: what computing needs, nothing that reaches another process.

A classic BPF program for seccomp(2), x86-64. What is not in the list fails with EPERM (clone3 with ENOSYS:
its flags cannot be looked at, and the C library then uses clone).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from instar.process.syscalls import NUMBERS

_LOAD, _EQUAL, _ANY_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # in struct seccomp_data
_X86_64 = 0xC000003E
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CLONE_THREAD = 0x00010000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SET_SECCOMP, _FILTER = 22, 2  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def _names(text: str) -> list[str]:
    return text.split()


_FREE = _names(
    """
    read write readv writev pread64 pwrite64 preadv pwritev lseek close close_range fstat stat lstat
    newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd chdir
    fchdir dup dup2 dup3 pipe pipe2 fsync fdatasync ftruncate umask statfs
    fstatfs copy_file_range sendfile mmap munmap mprotect mremap madvise brk mincore memfd_create
    membarrier mlock munlock futex set_robust_list get_robust_list rseq sched_yield sched_getaffinity
    set_tid_address arch_prctl getpid gettid getppid getuid geteuid getgid getegid getgroups getresuid
    getresgid getpgrp getsid clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time
    getitimer setitimer alarm pause rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait
    rt_sigsuspend sigaltstack restart_syscall getrlimit setrlimit getrusage sysinfo uname getrandom getcpu
    times poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd
    eventfd2 sendto recvfrom sendmsg recvmsg shutdown exit exit_group
    """
)
# Only where Landlock bounds them to the worker's own directory.
_FILES = _names(
    """
    mkdir truncate fallocate mkdirat rmdir unlink unlinkat rename renameat renameat2 creat
    link linkat symlink symlinkat
    """
)
_OPENING = {"open": 1, "openat": 2}  # which argument has the flags
# Call -> the argument that says what is meant, and what it may say. Not: who gets a descriptor's signals.
_CHOSEN = {
    "fcntl": (1, (0, 1, 2, 3, 4, 1030, 1033, 1034)),  # F_DUPFD, F_GETFD ... F_SETFL, F_DUPFD_CLOEXEC, seals
    "ioctl": (1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # TCGETS, window size, FIO*
}


def build_filter(pid: int, *, bounded: bool) -> bytes:
    """The program, ``struct sock_filter`` after another.

    Args:
        pid: Of the worker, which may send signals to itself only.
        bounded: Landlock keeps it from writing where it may not; else it opens nothing for writing.
    """
    names = [*_FREE, *(_FILES if bounded else ())]
    rules = [_when(NUMBERS[name], _end(_ALLOW)) for name in names]
    for name, index in _OPENING.items():
        refused = _argument(index) + _jump(_ANY_SET, _WRITING, 0, 1) + _end(_ERRNO | errno.EPERM)
        rules.append(_when(NUMBERS[name], (b"" if bounded else refused) + _end(_ALLOW)))
    for name, (index, choice) in _CHOSEN.items():
        rules.append(_when(NUMBERS[name], _one_of(index, choice)))
    for name in ("kill", "tkill", "tgkill"):
        rules.append(_when(NUMBERS[name], _one_of(0, (pid,))))
    thread = _argument(0) + _jump(_ANY_SET, _CLONE_THREAD, 0, 1) + _end(_ALLOW) + _end(_ERRNO | errno.EPERM)
    rules.append(_when(NUMBERS["clone"], thread))
    rules.append(_when(NUMBERS["clone3"], _end(_ERRNO | errno.ENOSYS)))
    rules.append(_when(NUMBERS["prlimit64"], _one_of(0, (0, pid))))
    head = _load(_ARCH) + _jump(_EQUAL, _X86_64, 1, 0) + _end(_KILL) + _load(_NUMBER)
    return head + b"".join(rules) + _end(_ERRNO | errno.EPERM)


def _one_of(index: int, values: tuple[int, ...]) -> bytes:
    allowed = b"".join(_jump(_EQUAL, value, 0, 1) + _end(_ALLOW) for value in values)
    return _argument(index) + allowed + _end(_ERRNO | errno.EPERM)


def _when(number: int, body: bytes) -> bytes:
    """A body that ends by returning, for one call; the accumulator has the number before and after."""
    return _jump(_EQUAL, number, 0, len(body) // 8) + body


def _instruction(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, 0, 0, offset)


def _argument(index: int) -> bytes:
    return _load(_ARGUMENTS + 8 * index)  # the lower half


def _jump(code: int, value: int, yes: int, no: int) -> bytes:
    return _instruction(code, yes, no, value)


def _end(verdict: int) -> bytes:
    return _instruction(_RETURN, 0, 0, verdict)


def install_filter(program: bytes) -> None:
    """Put a filter into force for this thread and what it starts; cannot be undone. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    if libc.prctl(_SET_SECCOMP, _FILTER, ctypes.c_char_p(head), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
