"""May this process be traced by us? If not: exactly why, and what would help (ptrace(2), access checks)."""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
from pathlib import Path

from instar.errors import HostError
from instar.process.status import Status, read_status

_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
CAP_SYS_PTRACE, CAP_SYS_ADMIN = 19, 21
_SECCOMP_FILTER = 2
_PTRACE_CONT, _PROCESS_VM_READV, _PTRACE = 7, 310, 101
_NO_PROCESS = 2**22 + 1  # above PID_MAX_LIMIT
_CONTAINER_REMEDY = (
    "give the container the right to trace: --cap-add=SYS_PTRACE (docker, podman), "
    'capabilities.add: ["SYS_PTRACE"] (Kubernetes)'
)

_libc = ctypes.CDLL(None, use_errno=True)


def explain_access(pid: int) -> HostError | None:
    """Why a process may not be traced; None when it may.

    Opening /proc/PID/mem asks the same question as PTRACE_SEIZE (PTRACE_MODE_ATTACH), Yama and other
    security modules included, and has no effect on the process.
    """
    filtered = explain_sandbox()
    if filtered is not None:
        return filtered
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return _explain_denial(pid, error)
    return explain_filter(read_status(pid))


def explain_sandbox() -> HostError | None:
    """Whether a sandbox around instar itself (a container's seccomp profile) forbids the calls it needs."""
    for name, number, arguments in (
        ("ptrace", _PTRACE, (_PTRACE_CONT, _NO_PROCESS, 0, 0)),
        ("process_vm_readv", _PROCESS_VM_READV, (_NO_PROCESS, None, 0, None, 0, 0)),
    ):
        ctypes.set_errno(0)
        _libc.syscall(number, *arguments)
        if ctypes.get_errno() in (errno.EPERM, errno.ENOSYS, errno.EACCES):
            return HostError(
                "ptrace-sandboxed",
                f"the system call {name} is forbidden here (a container's seccomp profile)",
                _CONTAINER_REMEDY,
            )
    return None


def has_capability(number: int, status: Status | None = None) -> bool:
    """Whether a process, by default this one, has a capability in effect."""
    return bool((status or read_status(os.getpid())).capabilities["effective"] >> number & 1)


def yama_scope() -> int:
    """kernel.yama.ptrace_scope; 0 where the kernel has no Yama."""
    try:
        return int(_YAMA.read_text())
    except (OSError, ValueError):
        return 0


def user_name(uid: int) -> str:
    """ "anna", or the number of a user without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def explain_filter(status: Status) -> HostError | None:
    """A process under its own seccomp filter is driven with the filter suspended, which needs a right."""
    confined = read_status(os.getpid()).seccomp
    if status.seccomp != _SECCOMP_FILTER or (has_capability(CAP_SYS_ADMIN) and not confined):
        return None
    if confined:
        return HostError(
            "seccomp-filter",
            f"process {status.pid} ({status.name}) runs under a seccomp filter, and so does instar, "
            "which can then not suspend it (a container's profile)",
            "run the container without a profile: --security-opt seccomp=unconfined",
        )
    return HostError(
        "seccomp-filter",
        f"process {status.pid} ({status.name}) runs under a seccomp filter, which only root can suspend",
        f"run it as root: sudo instar update {status.pid} ...",
    )


def _explain_denial(pid: int, error: OSError) -> HostError:
    status = read_status(pid)
    who = f"process {pid} ({status.name})"
    sudo = "run instar as root: sudo instar ..."
    ours = os.getuid()
    owner = status.uids[0]
    if os.geteuid() == 0:
        return HostError(
            "ptrace-denied",
            f"{who} may not be traced by root here: {os.strerror(error.errno or 0)}",
            _CONTAINER_REMEDY,
        )
    if owner != ours:
        return HostError(
            "other-user",
            f"{who} belongs to user {user_name(owner)}, instar runs as {user_name(ours)}",
            sudo,
        )
    if len(set(status.uids)) > 1 or len(set(status.gids)) > 1:
        return HostError(
            "setuid-target",
            f"{who} runs a set-user-id program (as {user_name(status.uids[1])} for {user_name(owner)})",
            sudo,
        )
    if status.capabilities["permitted"] & ~read_status(os.getpid()).capabilities["permitted"]:
        return HostError("privileged-target", f"{who} has capabilities that instar does not have", sudo)
    if Path(f"/proc/{pid}/stat").stat().st_uid != ours:
        return HostError("undumpable", f"{who} has forbidden to be traced (prctl PR_SET_DUMPABLE)", sudo)
    scope = yama_scope()
    if scope:
        return HostError("ptrace-denied", f"{who} may not be traced: {yama_text(scope)}", yama_remedy(scope))
    return HostError("ptrace-denied", f"{who} may not be traced: {os.strerror(error.errno or 0)}", sudo)


def yama_text(scope: int) -> str:
    """What a value of kernel.yama.ptrace_scope forbids."""
    forbids = {1: "only children may be traced", 2: "only administrators may trace", 3: "nobody may trace"}
    return f"kernel.yama.ptrace_scope is {scope}, {forbids.get(scope, 'tracing is restricted')}"


def yama_remedy(scope: int) -> str:
    """The command that helps against it."""
    if scope >= 3:
        return "this setting cannot be taken back: set kernel.yama.ptrace_scope in /etc/sysctl.d and reboot"
    if scope == 1:
        return "run instar as root, or: sudo sysctl kernel.yama.ptrace_scope=0"
    return "run instar as root: sudo instar ..."
