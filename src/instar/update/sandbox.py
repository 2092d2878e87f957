"""Takes from a process all rights but to compute, to read files and to write into one directory.

What the kernel does not have is left out and named: ``instar doctor`` tells it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from instar.update.seccomp import build_filter, install_filter

_NO_NEW_PRIVS, _PDEATHSIG = 38, 1  # PR_SET_*
_CAPBSET_DROP, _CAP_LAST = 24, 63
_CAPSET, _CAP_VERSION_3 = 126, 0x20080522
_CAP_DAC_READ_SEARCH = 2  # handlers may read files
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION, _PATH_BENEATH = 1, 1
# linux/landlock.h: LANDLOCK_ACCESS_FS_WRITE_FILE, REMOVE_*, MAKE_*; since version 2 REFER, since 3 TRUNCATE.
_WRITES = 1 << 1 | sum(1 << bit for bit in range(4, 13))
_EXECUTE, _REFER, _TRUNCATE = 1 << 0, 1 << 13, 1 << 14
_NETWORK_VERSION, _TCP = 4, 0b11  # LANDLOCK_ACCESS_NET_BIND_TCP, CONNECT_TCP
_SCOPE_VERSION, _SCOPES = 6, 0b11  # abstract sockets, signals
_SIGKILL = 9
_NEW_USER = 0x10000000  # CLONE_NEWUSER
LOOKING_BOUND = "user namespace"  # what is missing when it could read the memory of others
_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def landlock_version() -> int:
    """Of the kernel's Landlock; 0: it has none."""
    with suppress(OSError):
        return _call(_CREATE_RULESET, None, 0, _RULESET_VERSION)
    return 0


def confine(own: Path | None, *, cpu_s: int, memory: int) -> list[str]:
    """Give all rights up that computing does not need; must be called while the process has one thread.

    Args:
        own: The directory that it may write to, if any.
        cpu_s: Seconds of processor time it may use.
        memory: Bytes of private memory it may have.

    Returns:
        What could not be had.
    """
    missing = []
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("limits", lambda: _limit(cpu_s, memory)),
        ("no_new_privs", lambda: _set(_NO_NEW_PRIVS, 1)),
        ("capabilities", _drop_capabilities),
        ("landlock", lambda: _landlock(own)),
    )
    for name, step in steps:
        try:
            step()
        except OSError as error:
            missing.append(f"{name} ({error.strerror})")
    bounded = not any(text.startswith("landlock") for text in missing)
    if not bounded:
        missing += _leave_user_namespace()
    try:
        install_filter(build_filter(os.getpid(), bounded=bounded))
    except OSError as error:
        missing.append(f"seccomp ({error.strerror})")
    return missing


def _leave_user_namespace() -> list[str]:
    """In one of its own nobody outside can be looked into: that takes CAP_SYS_PTRACE in theirs (ptrace(2)).

    Files of others are those of nobody there, so that it is for where Landlock does not do the same.
    """
    users, groups = os.geteuid(), os.getegid()
    try:
        if _libc.unshare(_NEW_USER) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{users} {users} 1")
        Path("/proc/self/gid_map").write_text(f"{groups} {groups} 1")
        _drop_capabilities(keep=0)
    except OSError as error:
        return [f"{LOOKING_BOUND} ({error.strerror})"]
    return []


def try_confinement() -> list[str]:
    """What ``confine`` would leave out on this machine, found out in a process of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            missing = confine(None, cpu_s=10, memory=1 << 40)
            os.write(write, "\n".join(missing).encode() or b"-")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(pid, 0)
    return [] if said == "-" else said.splitlines() or ["the whole of it (it failed)"]


def die_with(parent: int) -> None:
    """Be killed when the parent ends, also if it has ended already."""
    _set(_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _set(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _limit(cpu_s: int, memory: int) -> None:
    limits = (resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_DATA, memory), (resource.RLIMIT_CORE, 0)
    for kind, value in limits:
        known = [limit for limit in (value, *resource.getrlimit(kind)) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(kind, (min(known), min(known)))
    Path("/proc/self/oom_score_adj").write_text("1000")  # it goes first


def _drop_capabilities(keep: int = 1 << _CAP_DAC_READ_SEARCH) -> None:
    for capability in range(_CAP_LAST + 1):
        _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # fails where there is none to drop
    effective = _effective() & keep
    header = struct.pack("<Ii", _CAP_VERSION_3, 0)
    _call(_CAPSET, header, struct.pack("<6I", effective, effective, 0, 0, 0, 0))


def _effective() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _landlock(own: Path | None) -> None:
    """Writing is for the own directory; and nobody outside of this domain can be traced or looked into."""
    version = _call(_CREATE_RULESET, None, 0, _RULESET_VERSION)
    writes = _WRITES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    words = [writes | _EXECUTE]
    if version >= _NETWORK_VERSION:
        words.append(_TCP)
    if version >= _SCOPE_VERSION:
        words.append(_SCOPES)
    attributes = struct.pack(f"<{len(words)}Q", *words)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        if own is not None:
            directory = os.open(own, os.O_PATH | os.O_CLOEXEC)
            try:
                _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("<Qi", writes, directory), 0)
            finally:
                os.close(directory)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
