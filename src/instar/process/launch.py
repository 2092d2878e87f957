"""Starting a program under trace, in the surroundings of another process."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal as signals
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn

from instar.errors import RefusedError
from instar.process import ptrace
from instar.process.deadline import Deadline
from instar.process.failures import explain_seize
from instar.process.forking import fork
from instar.process.tracee import Tracee

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_NO_NEW_PRIVS, _PR_SET_TIMERSLACK, _PR_SET_KEEPCAPS = 38, 29, 8
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 23, 24, 47, 2
_DEFAULT_SLACK_NS = 50_000


@dataclass(frozen=True)
class Preparation:
    """What the new process sets up before it executes the program; None leaves a thing as instar has it.

    Attributes:
        working_directory: A path, or a descriptor opened with O_PATH.
        root: The same for chroot; entered before the working directory.
        user_namespace: Descriptor of /proc/PID/ns/user to enter; users and groups are those outside of it.
        namespaces: Descriptors of further /proc/PID/ns/* to enter (not the pid namespace), in this order.
        umask: File mode mask.
        limits: ``resource.RLIMIT_*`` -> (soft, hard).
        users: Real, effective and saved user ids.
        groups: Real, effective and saved group ids.
        supplementary: Further groups.
        new_session: setsid().
        process_group: setpgid(0, this); must be a group of the same session.
        nice: Absolute niceness.
        policy: Scheduling policy and static priority.
        affinity: CPUs.
        oom_score_adj: -1000 to 1000.
        cgroup: Paths of cgroup.procs files to join.
        bounding_capabilities: All others are dropped from the bounding set (bit ``n`` is capability ``n``).
        kept_capabilities: Permitted, inheritable and ambient ones to keep although the user is not root.
        no_new_privileges: PR_SET_NO_NEW_PRIVS.
        personality: personality(2).
        timer_slack_ns: PR_SET_TIMERSLACK.
        blocked_signals: Bit ``n - 1`` is signal ``n``.
        ignored_signals: The same; all others get their default action.
        descriptors: Number in the new process -> descriptor here; all others are closed.
    """

    working_directory: str | bytes | int | None = None
    root: str | bytes | int | None = None
    user_namespace: int | None = None
    namespaces: tuple[int, ...] = ()
    umask: int | None = None
    limits: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    users: tuple[int, int, int] | None = None
    groups: tuple[int, int, int] | None = None
    supplementary: tuple[int, ...] | None = None
    new_session: bool = False
    process_group: int | None = None
    nice: int | None = None
    policy: tuple[int, int] | None = None
    affinity: frozenset[int] | None = None
    oom_score_adj: int | None = None
    cgroup: tuple[str, ...] = ()
    bounding_capabilities: int | None = None
    kept_capabilities: int = 0
    no_new_privileges: bool = False
    personality: int | None = None
    timer_slack_ns: int = _DEFAULT_SLACK_NS
    blocked_signals: int = 0
    ignored_signals: int = 0
    descriptors: Mapping[int, int] | None = None


def launch_tracee(
    argv: list[str | bytes],
    env: dict[str, str] | dict[bytes, bytes] | list[bytes],
    executable: str | bytes | Path,
    options: int,
    exitkill: bool,
    prepare: Preparation | None,
    deadline: Deadline,
) -> Tracee:
    """See ``Tracee.launch``; raises RefusedError with code "launch-failed" naming the step that failed."""
    arguments = [os.fsencode(word) for word in argv]
    environment = _environment(env)
    program = os.fsencode(executable)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    report_read, report_write = os.pipe2(os.O_CLOEXEC)
    with _open(go_read, go_write, report_read, report_write) as still_open:
        pid = fork()
        if pid == 0:
            _be_child(prepare or Preparation(), (go_read, go_write, report_read, report_write),
                      program, arguments, environment)  # fmt: skip
        tracee = _seize_child(pid, options | (ptrace.O_EXITKILL if exitkill else 0))
        try:
            os.write(go_write, b"g")
            still_open.remove(report_write)
            os.close(report_write)
            _wait_for_exec(tracee, report_read, os.fsdecode(program), deadline)
        except BaseException:
            tracee.kill()
            raise
    return tracee


@contextlib.contextmanager
def _open(*descriptors: int) -> Iterator[set[int]]:
    still_open = set(descriptors)
    try:
        yield still_open
    finally:
        for descriptor in still_open:
            os.close(descriptor)


def _environment(env: dict[str, str] | dict[bytes, bytes] | list[bytes]) -> list[bytes]:
    if isinstance(env, dict):
        return [os.fsencode(key) + b"=" + os.fsencode(value) for key, value in env.items()]
    return env


def _seize_child(pid: int, options: int) -> Tracee:
    try:
        ptrace.seize(pid, options)
    except OSError as error:
        os.kill(pid, signals.SIGKILL)
        os.waitpid(pid, 0)
        raise explain_seize(pid, error) from error
    return Tracee(pid, options)


def _wait_for_exec(tracee: Tracee, report: int, program: str, deadline: Deadline) -> None:
    """To the exit stop of the execve; passes everything before."""
    while True:
        stop = tracee.wait(deadline)
        if stop.ended or stop.event == ptrace.EVENT_EXIT:
            raise _launch_error(report, program)
        if stop.event == ptrace.EVENT_EXEC:
            break
        tracee.resume("cont", stop.signal if stop.kind == "signal" else 0)
    tracee.resume("syscall")
    while not tracee.wait(deadline).exit:
        if tracee.end is not None:
            raise tracee.died(tracee.end)
        tracee.resume("syscall")


def _launch_error(report: int, program: str) -> RefusedError:
    os.set_blocking(report, False)  # at its exit stop the child has the other end open still
    try:
        data = os.read(report, 4096)
    except BlockingIOError:
        data = b""
    if len(data) < 4:
        return RefusedError(
            "launch-failed", f"{program} could not be started: killed", "see the kernel's log"
        )
    (code,) = struct.unpack("<i", data[:4])
    step = data[4:].decode()
    return RefusedError(
        "launch-failed",
        f"{program} could not be started: {step}: {os.strerror(code)}",
        "see whether this user may do that, and that the file is a program for this machine",
    )


# ---------------------------------------------------------------------------------------- in the child


def _be_child(
    prepare: Preparation,
    pipes: tuple[int, int, int, int],
    program: bytes,
    arguments: list[bytes],
    environment: list[bytes],
) -> NoReturn:
    go_read, go_write, report_read, report_write = pipes
    step = "start"
    try:
        os.close(go_write)
        os.close(report_read)
        if os.read(go_read, 1) != b"g":
            os._exit(127)
        os.close(go_read)
        vector = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
        words = (ctypes.c_char_p * (len(environment) + 1))(*environment, None)
        for step, action in _steps(prepare, report_write):  # noqa: B007
            if isinstance(action, int):
                report_write = action
            else:
                action()
        step = "execve"
        _check(_libc.execve(program, vector, words))
    except OSError as error:
        os.write(report_write, struct.pack("<i", error.errno or 0) + step.encode())
    except (ValueError, OverflowError, MemoryError):
        os.write(report_write, struct.pack("<i", errno.EINVAL) + step.encode())
    finally:
        os._exit(127)


def _check(result: int) -> None:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _steps(prepare: Preparation, report: int) -> Iterator[tuple[str, Callable[[], object] | int]]:
    """The steps, each while it still has the rights; an int is the new number of the report pipe."""
    yield from _standing_steps(prepare)
    if prepare.user_namespace is not None:
        # What needs rights outside comes before; who owns the namespace has every right in it.
        limits = {limit: pair for limit, pair in prepare.limits.items() if limit != resource.RLIMIT_NOFILE}
        yield "setrlimit", lambda: _set_limits(limits)
        yield from _user_steps(prepare)
        yield "setns user", partial(_enter_namespace, prepare.user_namespace)
    for number in prepare.namespaces:
        yield "setns", partial(_enter_namespace, number)
    if prepare.root is not None:
        yield "chroot", lambda: _change_root(prepare.root or "/")
    if prepare.working_directory is not None:
        yield "chdir", lambda: os.chdir(prepare.working_directory or "/")
    if prepare.umask is not None:
        yield "umask", lambda: os.umask(prepare.umask or 0)
    yield "prctl", lambda: _libc.prctl(_PR_SET_TIMERSLACK, prepare.timer_slack_ns, 0, 0, 0)
    if prepare.personality is not None:
        yield "personality", lambda: _libc.personality(prepare.personality or 0)
    if prepare.descriptors is not None:
        moved = _free_number(prepare.descriptors)
        if moved != report:
            yield "dup report", lambda: os.dup2(report, moved, inheritable=False)
        yield "dup report", moved
        yield "dup2", lambda: _place_descriptors(prepare.descriptors or {}, moved)
    if prepare.limits:
        yield "setrlimit", lambda: _set_limits(prepare.limits)
    if prepare.user_namespace is None:
        yield from _user_steps(prepare)
    yield from _capability_steps(prepare)
    yield "signals", lambda: _set_signals(prepare)


def _enter_namespace(number: int) -> None:
    _check(_libc.setns(number, 0))


def _standing_steps(prepare: Preparation) -> Iterator[tuple[str, Callable[[], object]]]:
    """Place among other processes. What is not permitted is left: whoever asked compares afterwards."""
    for path in prepare.cgroup:
        yield f"join cgroup {path}", partial(_if_permitted, _write, path, b"0")
    if prepare.oom_score_adj is not None:
        score = str(prepare.oom_score_adj).encode()
        yield "oom_score_adj", lambda: _if_permitted(_write, "/proc/self/oom_score_adj", score)
    if prepare.new_session:
        yield "setsid", os.setsid
    if prepare.process_group is not None:
        yield "setpgid", lambda: os.setpgid(0, prepare.process_group or 0)
    if prepare.nice is not None:
        yield "nice", lambda: _if_permitted(os.setpriority, os.PRIO_PROCESS, 0, prepare.nice or 0)
    if prepare.policy is not None:
        yield "sched_setscheduler", lambda: _if_permitted(_set_policy, *(prepare.policy or (0, 0)))
    if prepare.affinity is not None:
        yield "sched_setaffinity", lambda: os.sched_setaffinity(0, prepare.affinity or set())


def _user_steps(prepare: Preparation) -> Iterator[tuple[str, Callable[[], object]]]:
    groups = prepare.supplementary
    if groups is not None and set(groups) != set(os.getgroups()):  # even the same ones need a right
        yield "setgroups", lambda: os.setgroups(list(groups))
    if prepare.groups is not None:
        yield "setresgid", lambda: os.setresgid(*(prepare.groups or (0, 0, 0)))
    if prepare.bounding_capabilities is not None and prepare.user_namespace is None:
        bounding = prepare.bounding_capabilities
        yield "bounding set", lambda: _if_permitted(_limit_capabilities, bounding)
    if prepare.kept_capabilities and prepare.user_namespace is None:
        yield "keepcaps", lambda: _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    if prepare.users is not None:
        yield "setresuid", lambda: os.setresuid(*(prepare.users or (0, 0, 0)))


def _capability_steps(prepare: Preparation) -> Iterator[tuple[str, Callable[[], object]]]:
    if prepare.user_namespace is not None and prepare.bounding_capabilities is not None:
        yield "bounding set", lambda: _limit_capabilities(prepare.bounding_capabilities or 0)
    if prepare.kept_capabilities:
        yield "capabilities", lambda: _keep_capabilities(prepare.kept_capabilities)
    if prepare.no_new_privileges:
        yield "no_new_privs", lambda: _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _limit_capabilities(bounding: int) -> None:
    for number in range(64):
        present = _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0)
        if present == 1 and not bounding >> number & 1:
            _check(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))


def _keep_capabilities(kept: int) -> None:
    """capset(2), version 3; then the ambient set, which survives the exec."""
    header = struct.pack("<Ii", 0x20080522, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    _check(_libc.capset(header, struct.pack("<6I", low, low, low, high, high, high)))
    for number in range(64):
        if kept >> number & 1:
            _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0))


def _if_permitted(action: Callable[..., object], *arguments: object) -> None:
    with contextlib.suppress(PermissionError):
        action(*arguments)


def _set_limits(limits: Mapping[int, tuple[int, int]]) -> None:
    """As far as they may be raised."""
    for limit, (soft, hard) in limits.items():
        if resource.getrlimit(limit) == (soft, hard):
            continue
        try:
            resource.setrlimit(limit, (soft, hard))
        except (PermissionError, ValueError):  # Python's word for a hard limit that may not be raised
            most = resource.getrlimit(limit)[1]
            resource.setrlimit(limit, (_lower(soft, most), _lower(hard, most)))


def _lower(one: int, other: int) -> int:
    limits = [limit for limit in (one, other) if limit != resource.RLIM_INFINITY]
    return min(limits, default=resource.RLIM_INFINITY)


def _set_policy(policy: int, priority: int) -> None:
    os.sched_setscheduler(0, policy, os.sched_param(priority))


def _change_root(root: str | bytes | int) -> None:
    if isinstance(root, int):
        os.fchdir(root)
        os.chroot(".")
    else:
        os.chroot(root)
        os.chdir("/")


def _free_number(descriptors: Mapping[int, int]) -> int:
    return max(*descriptors.keys(), *descriptors.values(), 63, 63) + 1


def _place_descriptors(descriptors: Mapping[int, int], report: int) -> None:
    """Put each descriptor at its number and close the rest; sources are first moved out of the way."""
    base = report + 1
    moved: dict[int, int] = {}
    for index, source in enumerate(set(descriptors.values())):
        moved[source] = os.dup2(source, base + index, inheritable=False)
    for number, source in descriptors.items():
        os.dup2(moved[source], number, inheritable=True)
    keep = sorted({*descriptors, report})
    begin = 0
    for number in keep:
        if begin < number:  # closerange(0, 0) closes everything
            os.closerange(begin, number)
        begin = number + 1
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    os.closerange(begin, min(limit if limit > 0 else 1 << 20, 1 << 20))


def _set_signals(prepare: Preparation) -> None:
    for number in range(1, 65):
        if number in (signals.SIGKILL, signals.SIGSTOP):
            continue
        ignored = prepare.ignored_signals >> (number - 1) & 1
        with contextlib.suppress(OSError, ValueError):
            signals.signal(number, signals.SIG_IGN if ignored else signals.SIG_DFL)
    blocked = {number for number in range(1, 65) if prepare.blocked_signals >> (number - 1) & 1}
    signals.pthread_sigmask(signals.SIG_SETMASK, blocked)
