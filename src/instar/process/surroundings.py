"""What surrounds a program: directories, limits, credentials, scheduling, session, namespaces."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from instar.process.failures import lost_process
from instar.process.launch import Preparation
from instar.process.status import Status, read_status

_NAMESPACES = ("user", "mnt", "net", "uts", "ipc", "cgroup", "time", "pid")
_LIMITS = {
    "Max cpu time": resource.RLIMIT_CPU,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK,
    "Max core file size": resource.RLIMIT_CORE,
    "Max resident set": resource.RLIMIT_RSS,
    "Max processes": resource.RLIMIT_NPROC,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max locked memory": resource.RLIMIT_MEMLOCK,
    "Max address space": resource.RLIMIT_AS,
    "Max file locks": 10,
    "Max pending signals": resource.RLIMIT_SIGPENDING,
    "Max msgqueue size": resource.RLIMIT_MSGQUEUE,
    "Max nice priority": resource.RLIMIT_NICE,
    "Max realtime priority": resource.RLIMIT_RTPRIO,
    "Max realtime timeout": resource.RLIMIT_RTTIME,
}
_LIMIT_NAMES = {number: f"limit of {name.removeprefix('Max ')}" for name, number in _LIMITS.items()}
_LIMIT_NAME = 26  # columns of the name (fs/proc/base.c, proc_pid_limits)
_FIELDS_AFTER_NAME = 2
_ALL_CAPABILITIES = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Facts about a running process that its successor should share.

    Attributes:
        limits: ``resource.RLIMIT_*`` -> (soft, hard).
        namespaces: Kind -> "mnt:[4026531840]".
        cgroups: Lines of /proc/PID/cgroup.
        terminal: Device number of the controlling terminal, 0 for none.
        started: Ticks after boot: with the PID, the identity of the process.
        policy: Scheduling policy (SCHED_*) and ``priority`` its static priority.
        slack_ns: Timer slack, None where it may not be read.
    """

    pid: int
    status: Status
    working_directory: str
    root: str
    limits: dict[int, tuple[int, int]]
    namespaces: dict[str, str]
    cgroups: tuple[str, ...]
    oom_score_adj: int
    nice: int
    policy: int
    priority: int
    affinity: frozenset[int]
    session: int
    process_group: int
    terminal: int
    foreground_group: int
    started: int
    personality: int
    slack_ns: int | None

    @property
    def session_leader(self) -> bool:
        """Whether it leads a session of its own."""
        return self.session == self.pid

    def foreign_namespaces(self) -> tuple[str, ...]:
        """The kinds of namespace in which it is elsewhere than this process."""
        return tuple(kind for kind in _NAMESPACES if _differs(self.namespaces.get(kind), kind))


def _differs(namespace: str | None, kind: str) -> bool:
    if namespace is None:
        return False
    try:
        return namespace != os.readlink(f"/proc/self/ns/{kind}")  # noqa: PTH115
    except OSError:
        return False


def read_surroundings(pid: int) -> Surroundings:
    """Everything at once; raises HostError when the process is gone or may not be looked at."""
    status = read_status(pid)
    try:
        fields = read_stat(pid)
        return Surroundings(
            pid=pid,
            status=status,
            working_directory=_link(pid, "cwd"),
            root=_link(pid, "root"),
            limits=parse_limits(Path(f"/proc/{pid}/limits").read_text()),
            namespaces={kind: text for kind in _NAMESPACES if (text := _optional_link(pid, f"ns/{kind}"))},
            cgroups=tuple(Path(f"/proc/{pid}/cgroup").read_text().splitlines()),
            oom_score_adj=int(Path(f"/proc/{pid}/oom_score_adj").read_text()),
            nice=os.getpriority(os.PRIO_PROCESS, pid),
            policy=os.sched_getscheduler(pid),
            priority=os.sched_getparam(pid).sched_priority,
            affinity=frozenset(os.sched_getaffinity(pid)),
            session=os.getsid(pid),
            process_group=os.getpgid(pid),
            terminal=int(fields[4]),
            foreground_group=int(fields[5]),
            started=int(fields[19]),
            personality=_number(pid, "personality", 16) or 0,
            slack_ns=_number(pid, "timerslack_ns", 10),
        )
    except OSError as error:
        raise lost_process(pid, error) from error


def parse_limits(text: str) -> dict[int, tuple[int, int]]:
    """The text of /proc/PID/limits by RLIMIT_*; unlike prlimit(2) it may be read without CAP_SYS_RESOURCE."""
    found: dict[int, tuple[int, int]] = {}
    for line in text.splitlines()[1:]:
        number = _LIMITS.get(line[:_LIMIT_NAME].strip())
        if number is not None:
            soft, hard = (_limit(word) for word in line[_LIMIT_NAME:].split()[:2])
            found[number] = (soft, hard)
    return found


def _limit(word: str) -> int:
    return resource.RLIM_INFINITY if word == "unlimited" else int(word)


def read_stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on, so field n of proc(5) is at n - 3."""
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return text[text.rindex(")") + _FIELDS_AFTER_NAME :].split()


def start_time(pid: int) -> int:
    """Ticks after boot at which the process started; raises HostError when there is none."""
    try:
        return int(read_stat(pid)[19])
    except OSError as error:
        raise lost_process(pid, error) from error


def _link(pid: int, name: str) -> str:
    return os.readlink(f"/proc/{pid}/{name}")  # noqa: PTH115


def _optional_link(pid: int, name: str) -> str:
    try:
        return _link(pid, name)
    except OSError:
        return ""


def _number(pid: int, name: str, base: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/{name}").read_text(), base)
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def preparation_like(surroundings: Surroundings, *, keep_credentials: bool = True) -> Iterator[Preparation]:
    """How a child of this process comes into the surroundings of another; descriptors are closed at the end.

    What cannot be had: the same parent, and another process's session (a session leader's
    successor gets a session of its own). Descriptors, blocked and ignored signals are the caller's to add.

    Args:
        surroundings: Of the process to resemble.
        keep_credentials: With its present user, groups and capabilities (else with this process's own).
    """
    with contextlib.ExitStack() as stack:

        def opened(name: str, flags: int) -> int:
            descriptor = os.open(f"/proc/{surroundings.pid}/{name}", flags | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            return descriptor

        try:
            foreign = surroundings.foreign_namespaces()
            user = opened("ns/user", os.O_RDONLY) if "user" in foreign else None
            namespaces = tuple(
                opened(f"ns/{kind}", os.O_RDONLY) for kind in foreign if kind not in ("pid", "user")
            )
            root = opened("root", os.O_PATH) if surroundings.root != "/" else None
            directory = opened("cwd", os.O_PATH)
        except OSError as error:
            raise lost_process(surroundings.pid, error) from error
        like = _preparation(surroundings, namespaces, root, directory, keep_credentials)
        yield replace(like, user_namespace=user)


def _preparation(
    surroundings: Surroundings,
    namespaces: tuple[int, ...],
    root: int | None,
    directory: int,
    credentials: bool,
) -> Preparation:
    status = surroundings.status
    same_session = surroundings.session == os.getsid(0)
    realtime = surroundings.policy not in (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE)
    priority = surroundings.priority if realtime else 0
    return Preparation(
        working_directory=directory,
        root=root,
        namespaces=namespaces,
        umask=status.umask,
        limits=surroundings.limits,
        users=status.uids[:3] if credentials else None,
        groups=status.gids[:3] if credentials else None,
        supplementary=status.groups if credentials else None,
        bounding_capabilities=status.capabilities["bounding"] if credentials else None,
        kept_capabilities=_kept_capabilities(status) if credentials else 0,
        new_session=surroundings.session_leader or not same_session,
        process_group=surroundings.process_group if same_session else None,
        nice=surroundings.nice if surroundings.nice != os.getpriority(os.PRIO_PROCESS, 0) else None,
        policy=(surroundings.policy, priority) if surroundings.policy != os.sched_getscheduler(0) else None,
        affinity=surroundings.affinity,
        oom_score_adj=surroundings.oom_score_adj,
        cgroup=_cgroup_files(surroundings),
        no_new_privileges=status.no_new_privileges,
        personality=surroundings.personality,
        timer_slack_ns=surroundings.slack_ns or 50_000,
    )


def differences(one: Surroundings, other: Surroundings, *, credentials: bool = True) -> list[str]:
    """In what two processes' surroundings differ that cannot be changed later from outside, for people.

    Sessions, process groups and directories are left out; so are users and capabilities without
    ``credentials``.
    """

    def seen(of: Surroundings) -> dict[str, object]:
        status = of.status
        rights = {
            "user": status.uids[:3], "group": status.gids[:3], "further groups": sorted(status.groups),
            "bounding capabilities": status.capabilities["bounding"],
            "no_new_privs": status.no_new_privileges,
        }  # fmt: skip
        return {
            "control group": sorted(of.cgroups), "OOM score": of.oom_score_adj, "niceness": of.nice,
            "scheduling policy": of.policy, "CPU affinity": of.affinity, "umask": status.umask,
            **{_LIMIT_NAMES[limit]: pair for limit, pair in of.limits.items()},
            **{f"{kind} namespace": name for kind, name in of.namespaces.items()},
            **(rights if credentials else {}),
        }  # fmt: skip

    left, right = seen(one), seen(other)
    return [name for name in left if left[name] != right.get(name)]


def _kept_capabilities(status: Status) -> int:
    """The capabilities of a process that is not root (it dropped its user but kept some rights)."""
    return 0 if 0 in status.uids[:3] else status.capabilities["permitted"]


def _cgroup_files(surroundings: Surroundings) -> tuple[str, ...]:
    """cgroup.procs files to join, where the group differs from ours and can be found."""
    ours = set(Path("/proc/self/cgroup").read_text().splitlines())
    found: list[str] = []
    for line in surroundings.cgroups:
        if line in ours:
            continue
        _, controllers, path = line.split(":", 2)
        base = _cgroup_mount(controllers)
        if base is not None:
            found.append(f"{base}{path.rstrip('/')}/cgroup.procs")
    return tuple(found)


def _cgroup_mount(controllers: str) -> str | None:
    """Where a hierarchy is mounted: cgroup2 for "", else the mount with these controllers or this name."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split()
        if kind == "cgroup2" and controllers == "":
            return point
        if kind == "cgroup" and controllers and set(controllers.split(",")) <= set(options.split(",")):
            return point
    return None
