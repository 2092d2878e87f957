"""From errno values and wait statuses to the errors of this layer."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from instar.errors import HostError, InstarError
from instar.process.death import ProcessDiedError as ProcessDiedError
from instar.process.death import signal_name as signal_name


class RemoteCallError(InstarError):
    """A function or system call that ran inside a process on our behalf failed."""


@contextlib.contextmanager
def deaths(pid: int) -> Iterator[None]:
    """For looks at a process that was there a moment ago: its absence is its death, not a wrong PID."""
    try:
        yield
    except HostError as error:
        if error.code in ("zombie", "no-such-process"):
            raise ProcessDiedError(pid, None) from error
        raise


def _state(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def lost_process(pid: int, error: OSError) -> InstarError:
    """The error for a failed look at a process: gone, zombie, or out of reach."""
    state = _state(pid)
    if not state or error.errno in (errno.ENOENT, errno.ESRCH):
        return explain_absence(pid, state) or HostError(
            "no-such-process", f"process {pid} is gone", "give the PID of a running process"
        )
    return HostError(
        "ptrace-denied",
        f"process {pid} may not be looked at: {os.strerror(error.errno or 0)}",
        "run instar as the user that owns the process, or as root",
    )


def explain_absence(pid: int, state: dict[str, str] | None = None) -> HostError | None:
    """Why a PID cannot be worked on, read from /proc/PID/status; None when nothing speaks against it."""
    state = _state(pid) if state is None else state
    if not state:
        return HostError("no-such-process", f"there is no process {pid}", "give the PID of a running process")
    name = state.get("Name", "?")
    if state.get("Tgid") not in (None, str(pid)):
        return HostError(
            "not-a-process",
            f"{pid} is a thread of process {state['Tgid']} ({name})",
            f"give the process: {state['Tgid']}",
        )
    if state.get("State", "?")[0] in "ZX":
        return HostError(
            "zombie",
            f"process {pid} ({name}) has ended already, its parent {state.get('PPid')} has not collected it",
            "start the program again",
        )
    if state.get("Kthread") == "1" or ("VmSize" not in state and "Threads" in state):
        return HostError(
            "kernel-thread", f"{pid} ({name}) is a thread of the kernel", "give the PID of a program"
        )
    tracer = state.get("TracerPid", "0")
    if tracer not in ("0", str(os.getpid())):
        return HostError(
            "already-traced",
            f"process {pid} ({name}) is traced by process {tracer} ({_state(int(tracer)).get('Name', '?')})",
            f"end the tracer {tracer} (a debugger, strace) or detach it",
        )
    return None


def explain_seize(pid: int, error: OSError) -> HostError:
    """Why PTRACE_SEIZE was refused."""
    found = explain_absence(pid)
    if found is not None:
        return found
    return HostError(
        "ptrace-denied",
        f"process {pid} may not be traced: {os.strerror(error.errno or 0)}{_denial(pid)}",
        "run instar as root, or with CAP_SYS_PTRACE in the process's user namespace",
    )


def _denial(pid: int) -> str:
    try:
        yama = Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
    except OSError:
        yama = "0"
    owner = _state(pid).get("Uid", "").split()
    if owner and os.geteuid() not in (0, int(owner[0])):
        return f" (it belongs to user {owner[0]}, instar runs as {os.geteuid()})"
    if yama != "0":
        return f" (Yama's ptrace_scope is {yama})"
    return ""
