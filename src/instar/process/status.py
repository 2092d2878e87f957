"""What /proc tells about a process as a whole."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from instar.errors import HostError
from instar.process.failures import lost_process


@dataclass(frozen=True, slots=True)
class Status:
    """/proc/PID/status (proc(5)); signal and capability sets are bit masks, bit ``n - 1`` is signal ``n``.

    Attributes:
        uids: Real, effective, saved and filesystem user id; ``gids`` likewise.
        capabilities: By set: inheritable, permitted, effective, bounding, ambient.
        signals_pending: Of the thread and of the process.
        signals_blocked: Of the main thread.
    """

    pid: int
    name: str
    state: str
    parent: int
    tracer_pid: int
    threads: int
    uids: tuple[int, int, int, int]
    gids: tuple[int, int, int, int]
    groups: tuple[int, ...]
    capabilities: dict[str, int]
    umask: int
    signals_pending: int
    signals_blocked: int
    signals_ignored: int
    signals_caught: int
    no_new_privileges: bool
    seccomp: int
    kernel_thread: bool
    pid_in_namespace: int
    shadow_stack: bool = False

    @property
    def zombie(self) -> bool:
        """Whether it has ended and waits for its parent."""
        return self.state in ("Z", "X")

    @property
    def stopped(self) -> bool:
        """Whether a stop signal holds it."""
        return self.state == "T"


_CAPABILITIES = {"inheritable": "CapInh", "permitted": "CapPrm", "effective": "CapEff", "bounding": "CapBnd",
                 "ambient": "CapAmb"}  # fmt: skip


def read_status(pid: int) -> Status:
    """The status of a process; raises HostError when there is none."""
    return parse_status(_read(pid, "status").decode(errors="replace"))


def parse_status(text: str) -> Status:
    """Read the text of /proc/PID/status."""
    fields = {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}

    def numbers(key: str) -> tuple[int, ...]:
        return tuple(int(word) for word in fields.get(key, "").split())

    def mask(key: str) -> int:
        return int(fields.get(key, "0"), 16)

    real, effective, saved, filesystem = numbers("Uid")
    group, group_effective, group_saved, group_filesystem = numbers("Gid")
    return Status(
        pid=int(fields["Pid"]),
        name=fields["Name"],
        state=fields["State"][0],
        parent=int(fields["PPid"]),
        tracer_pid=int(fields["TracerPid"]),
        threads=int(fields.get("Threads", "1")),
        uids=(real, effective, saved, filesystem),
        gids=(group, group_effective, group_saved, group_filesystem),
        groups=numbers("Groups"),
        capabilities={name: mask(key) for name, key in _CAPABILITIES.items()},
        umask=int(fields.get("Umask", "22"), 8),
        signals_pending=mask("SigPnd") | mask("ShdPnd"),
        signals_blocked=mask("SigBlk"),
        signals_ignored=mask("SigIgn"),
        signals_caught=mask("SigCgt"),
        no_new_privileges=fields.get("NoNewPrivs") == "1",
        seccomp=int(fields.get("Seccomp", "0")),
        kernel_thread=fields.get("Kthread") == "1"
        or ("VmSize" not in fields and fields["State"][0] not in "ZX"),
        shadow_stack="shstk" in fields.get("x86_Thread_features", "").split(),
        pid_in_namespace=int(fields.get("NSpid", fields["Pid"]).split()[-1]),
    )


def read_arguments(pid: int) -> list[bytes]:
    """The argument vector as it is in memory now (a program may have overwritten it)."""
    data = _read(pid, "cmdline")
    return data.removesuffix(b"\0").split(b"\0") if data else []


def read_environment(pid: int) -> list[bytes]:
    """The environment that the program was started with, as it is in memory now."""
    data = _read(pid, "environ")
    return [word for word in data.split(b"\0") if word]


def read_auxiliary_vector(pid: int) -> dict[int, int]:
    """AT_* -> value (getauxval(3)), without AT_NULL."""
    data = _read(pid, "auxv")
    pairs = struct.iter_unpack("<QQ", data[: len(data) // 16 * 16])
    return {key: value for key, value in pairs if key}


def executable(pid: int) -> Path:
    """A path that opens the very file the process runs, also when that was replaced or deleted."""
    return Path(f"/proc/{pid}/exe")


def executable_name(pid: int) -> str:
    """What the kernel calls the program file; may end in " (deleted)"."""
    return _link(pid, "exe")


def working_directory(pid: int) -> str:
    """The working directory's path."""
    return _link(pid, "cwd")


def read_threads(pid: int) -> list[int]:
    """The thread ids, the main thread first."""
    try:
        tids = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError as error:
        raise lost_process(pid, error) from error
    return sorted(tids, key=lambda tid: (tid != pid, tid))


def read_children(pid: int) -> list[int]:
    """The PIDs of the living children."""
    found: list[int] = []
    for tid in read_threads(pid):
        found += [int(word) for word in _read(pid, f"task/{tid}/children").split()]
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError as error:
        raise lost_process(pid, error) from error


def _link(pid: int, name: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/{name}").readlink())
    except OSError as error:
        if isinstance(error, FileNotFoundError) and Path(f"/proc/{pid}").exists():
            raise HostError(
                "kernel-thread", f"process {pid} has no {name}", "give the PID of a program"
            ) from error
        raise lost_process(pid, error) from error
