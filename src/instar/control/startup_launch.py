"""How the past was started, and starting the new version the same way."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from instar.control.startup_past import PastFacts
from instar.control.startup_place import place_program
from instar.errors import FaultError, InstarError, RefusedError, UsageError
from instar.native import library_path
from instar.process.deadline import Deadline
from instar.process.descriptors import duplicate
from instar.process.exports import find_exports
from instar.process.launch import Preparation
from instar.process.maps import read_maps
from instar.process.memory import Memory
from instar.process.status import executable_name, read_environment
from instar.process.surroundings import preparation_like, read_stat
from instar.process.tracee import Tracee

_START_STACK, _ARGUMENTS_START, _ARGUMENTS_END = 25, 45, 46  # fields 28, 48, 49 of proc(5), from the third on
_MAX_ARGUMENTS = 1 << 16
_RUNTIME = "libinstar-runtime.so"
_STANDARD = (0, 1, 2)
_OWN_PID = (b"LISTEN_PID=", b"WATCHDOG_PID=")  # for the process that has this PID (sd_listen_fds(3))
_WIDEST_PID = b"4194304"


@dataclass(frozen=True, slots=True)
class Start:
    """What the new version is started with.

    Attributes:
        executable: The file of the new version.
        arguments: Its argument vector.
        environment: "NAME=value" words.
        start_as: Name of the user to start it as; None: with the past's present credentials.
    """

    executable: Path
    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    start_as: str | None = None


# ------------------------------------------------------------------------------------ what the past was given


def recover_arguments(pid: int) -> tuple[bytes, ...]:
    """The argument vector a process was started with.

    A program that sets its title writes over it. What is left is taken from the vector on its stack, which a
    program that copies its arguments first points at the copies; only the name it was called by may then be
    gone: the path of its file takes that place.

    Raises:
        RefusedError: arguments-lost: they are overwritten.
    """
    fields = read_stat(pid)
    stack, start, end = (int(fields[index]) for index in (_START_STACK, _ARGUMENTS_START, _ARGUMENTS_END))
    memory = Memory(pid)
    try:
        (count,) = struct.unpack("<Q", memory.read(stack, 8))
        if not 1 <= count <= _MAX_ARGUMENTS:
            raise _lost(pid)
        pointers = struct.unpack(f"<{count}Q", memory.read(stack + 8, 8 * count))
        words = tuple(memory.read_cstring(pointer) for pointer in pointers)
    except (FaultError, InstarError) as error:
        raise _lost(pid) from error
    whole = _intact(pointers, words, start, end)
    if whole:
        return words
    if count == 1 or not any(start <= pointer < end for pointer in pointers[1:]):
        return (os.fsencode(executable_name(pid).removesuffix(" (deleted)")), *words[1:])
    raise _lost(pid)


def _intact(pointers: tuple[int, ...], words: tuple[bytes, ...], start: int, end: int) -> bool:
    """Whether the words lie in the kernel's area one behind the other and fill it, or none lies there."""
    if not any(start <= pointer < end for pointer in pointers):
        return True
    ends = [pointer + len(word) + 1 for pointer, word in zip(pointers, words, strict=True)]
    return pointers[0] == start and list(pointers[1:]) == ends[:-1] and ends[-1] == end


def _lost(pid: int) -> RefusedError:
    return RefusedError(
        "arguments-lost",
        f"process {pid} has overwritten the arguments it was started with (it sets its title)",
        "give them: --argv 'PROGRAM ARGUMENT...'",
    )


def recover_environment(pid: int) -> tuple[bytes, ...]:
    """The environment a process was started with, or what it has now where a title has overwritten that."""
    words = tuple(read_environment(pid))
    data = Path(f"/proc/{pid}/environ").read_bytes()
    whole = b"".join(word + b"\0" for word in words)
    cut = whole and not data.removeprefix(whole).strip(b"\0")  # LD_PRELOAD, which the runtime has taken out
    if (data == whole or cut) and all(_is_assignment(word) for word in words):
        return words
    present = _present_environment(pid)
    if present is not None:
        return present
    raise RefusedError(
        "environment-lost",
        f"process {pid} has overwritten its environment (it sets its title)",
        "start the program again without that",
    )


def _present_environment(pid: int) -> tuple[bytes, ...] | None:
    """What ``environ`` points at; a program that names the variable has it itself, by a copy relocation."""
    memory, maps = Memory(pid), read_maps(pid)
    program = PurePath(executable_name(pid).removesuffix(" (deleted)")).name
    for image in (program, "libc.so.6"):
        exports = find_exports(memory, maps, image)
        address = exports.symbols.get("environ") if exports is not None else None
        if address is None:
            continue
        with contextlib.suppress(FaultError):
            words = tuple(_read_vector(memory, memory.u64(address)))
            if words and all(_is_assignment(word) for word in words):
                return words
    return None


def _is_assignment(word: bytes) -> bool:
    name, equals, _ = word.partition(b"=")
    return bool(name and equals) and all(32 < byte < 127 for byte in name)


def _read_vector(memory: Memory, address: int) -> Iterator[bytes]:
    for index in range(_MAX_ARGUMENTS):
        pointer = memory.u64(address + 8 * index)
        if not pointer:
            return
        yield memory.read_cstring(pointer)


# ---------------------------------------------------------------------------------------- starting


def launch_future(
    start: Start, past: PastFacts, standard: dict[int, int], reopened: set[int], deadline: Deadline
) -> Tracee:
    """Start the new version where the past is, under trace; it stands before its first instruction.

    Args:
        start: What to start.
        past: Where and as whom.
        standard: Our duplicates of the past's standard descriptors by number; filled in, the caller closes
            them.
        reopened: The numbers of those that have an open file of their own; filled in.
        deadline: For the exec.

    Raises:
        RefusedError: launch-failed, new-version-unreachable, pid-namespace.
    """
    if "pid" in past.surroundings.foreign_namespaces():
        raise RefusedError(
            "pid-namespace",
            f"process {past.pid} lives in a PID namespace of its own",
            "run instar inside that namespace (in the container)",
        )
    _open_standard(past, standard, reopened)
    with preparation_like(past.surroundings, keep_credentials=start.start_as is None) as like:
        prepare = replace(
            like, descriptors=_with_activation(start, past, standard), ignored_signals=_ignored(past)
        )
        if start.start_as is not None:
            prepare = _as_user(prepare, start.start_as)
        _require_reachable(start, prepare)
        tracee = Tracee.launch(
            list(start.arguments),
            _with_runtime(start.environment, past.pid),
            executable=start.executable,
            prepare=prepare,
            deadline=deadline,
        )
    _tell_own_pid(tracee)
    place_program(tracee, past.pid)
    return tracee


def _ignored(past: PastFacts) -> int:
    """Ignored signals are inherited by an exec; which the past was given cannot be told from those it chose.

    SIGHUP is what nohup ignores, SIGINT and SIGQUIT what a shell's background job ignores; a program that
    chooses to ignore SIGPIPE does so again.
    """
    inherited = (1 << 0) | (1 << 1) | (1 << 2)
    return past.surroundings.status.signals_ignored & inherited


def _open_standard(past: PastFacts, standard: dict[int, int], reopened: set[int]) -> None:
    """Duplicates of the past's own, /dev/null in place of what cannot be a standard descriptor."""
    for number in _STANDARD:
        descriptor = past.descriptors.get(number)
        if descriptor is None:
            continue
        listening = descriptor.socket is not None and descriptor.socket.listening
        anonymous = descriptor.target.startswith("anon_inode:")
        if listening or anonymous or descriptor.kind in ("directory", "memfd", "unknown"):
            continue
        if number == 0 and descriptor.kind == "file":
            with contextlib.suppress(OSError):  # a position of its own
                standard[number] = os.open(f"/proc/{past.pid}/fd/0", os.O_RDONLY | os.O_CLOEXEC)
                reopened.add(number)
                continue
        standard[number] = duplicate(past.pid, number)


def _with_activation(start: Start, past: PastFacts, standard: dict[int, int]) -> dict[int, int]:
    """The standard descriptors, and those that a service manager had passed (sd_listen_fds(3))."""
    given = dict(standard)
    for number in _STANDARD:
        if number not in given:
            given[number] = standard[number] = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    words = dict(word.split(b"=", 1) for word in start.environment if b"=" in word)
    count = words.get(b"LISTEN_FDS", b"")
    if words.get(b"LISTEN_PID") == b"%d" % past.pid and count.isdigit():
        for number in range(3, 3 + int(count)):
            if number in past.descriptors:
                given[number] = standard[number] = duplicate(past.pid, number)
    return given


def _with_runtime(environment: tuple[bytes, ...], past: int) -> list[bytes]:
    """LD_PRELOAD with the runtime in front; room for the new PID where the past's is given."""
    library = os.fsencode(library_path("runtime"))
    words, preloaded = [], False
    for word in environment:
        if word.startswith(b"LD_PRELOAD="):
            rest = [
                item for item in word[11:].replace(b":", b" ").split() if not item.endswith(_RUNTIME.encode())
            ]
            words.append(b"LD_PRELOAD=" + b":".join([library, *rest]))
            preloaded = True
        elif word.startswith(_OWN_PID) and word.endswith(b"=%d" % past):
            words.append(word.partition(b"=")[0] + b"=" + _WIDEST_PID)
        else:
            words.append(word)
    return words if preloaded else [*words, b"LD_PRELOAD=" + library]


def _tell_own_pid(tracee: Tracee) -> None:
    """Write its PID into the variables that are for itself only, which lie on its stack."""
    memory = tracee.memory
    stack = tracee.registers().rsp
    (count,) = struct.unpack("<Q", memory.read(stack, 8))
    address = stack + 8 * (count + 2)
    while pointer := memory.u64(address):
        name, _, given = memory.read_cstring(pointer).partition(b"=")
        if name + b"=" in _OWN_PID and given == _WIDEST_PID:
            value = b"%d" % tracee.pid
            memory.write(pointer + len(name) + 1, value + bytes(len(_WIDEST_PID) - len(value)))
        address += 8


def _as_user(prepare: Preparation, name: str) -> Preparation:
    """The credentials of a user's fresh login; the program drops them itself."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError as error:
        raise UsageError("no-such-user", f"there is no user {name}", "name an existing user") from error
    groups = tuple(group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem)
    return replace(
        prepare,
        users=(entry.pw_uid,) * 3,
        groups=(entry.pw_gid,) * 3,
        supplementary=(entry.pw_gid, *groups),
        root=None,
        bounding_capabilities=None,
        kept_capabilities=0,
    )


def _require_reachable(start: Start, prepare: Preparation) -> None:
    """A program that is started in another root must find the file and the runtime there."""
    if not isinstance(prepare.root, int):
        return
    for path in (start.executable.absolute(), library_path("runtime")):
        try:
            inside = os.stat(str(path).lstrip("/"), dir_fd=prepare.root)
        except OSError:
            inside = None
        if inside is None or not os.path.samestat(inside, path.stat()):
            raise RefusedError(
                "new-version-unreachable",
                f"the old version runs in another root directory, where there is no {path}",
                "put the file there under the same path, or give --start-as if the program changes its root",
            )
