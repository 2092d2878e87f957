"""What in one process stands in the way of updating it, and what is good to know before."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from instar.errors import InstarError
from instar.metadata.version import Version
from instar.process.descriptors import list_descriptors
from instar.process.failures import explain_absence
from instar.process.status import executable_name, read_arguments, read_status
from instar.process.surroundings import Surroundings, read_surroundings
from instar.update.access import explain_access, user_name
from instar.update.findings import Finding
from instar.update.preflight import (
    explain_children,
    explain_descriptors,
    explain_first,
    explain_own,
    explain_stopped,
    explain_threads,
    load_running,
)

_DELETED = " (deleted)"
_SECCOMP_STRICT = 1
_INIT = 1
_SUPERVISORS = ("systemd", "init", "runit", "s6-supervise", "supervisord", "tini", "dumb-init", "docker-init")


def examine_target(pid: int) -> list[Finding]:
    """Every question about a process that may be asked without stopping it."""
    try:
        absent = explain_own(pid) or explain_absence(pid)
        if absent is not None:
            return [Finding.from_error("process", absent)]
        status = read_status(pid)
        owner = user_name(status.uids[1])
        found = [Finding("process", "ok", f"{pid} ({status.name}) of user {owner}, {_state(status.state)}")]
        denied = explain_access(pid)
        if denied is not None:
            return [*found, Finding.from_error("access", denied)]
        return [*found, Finding("access", "ok", "it may be traced"), *_look_inside(pid)]
    except InstarError as error:  # it ended meanwhile, or changed its user
        return [Finding.from_error("process", error)]


def _state(letter: str) -> str:
    return {"S": "waiting", "R": "running", "D": "in an uninterruptible call", "T": "stopped"}.get(
        letter, letter
    )


def _look_inside(pid: int) -> list[Finding]:
    surroundings = read_surroundings(pid)
    questions: tuple[Callable[[], list[Finding]], ...] = (
        lambda: _program(pid),
        lambda: [_one(explain_stopped(pid), "state", "not stopped by a signal")],
        lambda: [_one(explain_threads(pid), "threads", "one thread")],
        lambda: [_one(explain_children(pid), "children", "no child processes")],
        lambda: _descriptors(pid),
        lambda: _arguments(pid),
        lambda: _parent(surroundings),
        lambda: _sandbox(pid, surroundings),
        lambda: _locked_memory(pid),
    )
    return [finding for question in questions for finding in question()]


def _one(error: InstarError | None, subject: str, otherwise: str) -> Finding:
    return Finding(subject, "ok", otherwise) if error is None else Finding.from_error(subject, error)


def _program(pid: int) -> list[Finding]:
    name = executable_name(pid)
    found = [_file(pid, name)]
    try:
        version = load_running(pid)
    except InstarError as error:
        return [*found, Finding.from_error("debug information", error)]
    return [*found, _debug_information(version)]


def _file(pid: int, name: str) -> Finding:
    if name.endswith(_DELETED):
        text = (
            f"{name.removesuffix(_DELETED)} was deleted or replaced since; the running file is still at hand"
        )
        return Finding("program file", "note", text)
    try:
        same = Path(name).samefile(f"/proc/{pid}/exe")
    except OSError:
        same = False
    if same:
        return Finding("program file", "ok", name)
    return Finding("program file", "note", f"{name} is another file here; the running one is still at hand")


def _debug_information(version: Version) -> Finding:
    text = (
        f"{len(version.units):,} units, {len(version.variables):,} variables, "
        f"{len(version.functions):,} functions, build-id {version.build_id[:12] or 'none'}"
    )
    return Finding("debug information", "ok", text)


def _descriptors(pid: int) -> list[Finding]:
    descriptors = list_descriptors(pid, sockets=False)
    obstacles = explain_descriptors(descriptors)
    if obstacles:
        return [Finding.from_error("descriptors", error) for error in obstacles]
    kinds = Counter(descriptor.kind for descriptor in descriptors)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return [Finding("descriptors", "ok", f"{len(descriptors)}: {listed}" if listed else "none")]


def _arguments(pid: int) -> list[Finding]:
    """A program that sets its title overwrites the arguments the new version should start with."""
    words = read_arguments(pid)
    title = words[0].decode(errors="replace") if words else ""
    overwritten = not words or (len(words) == 1 and (" " in title or ": " in title))
    if not overwritten:
        return [Finding("arguments", "ok", f"{len(words)} in memory")]
    text = f"overwritten by the program ({title!r})" if words else "erased by the program"
    return [
        Finding("arguments", "note", text, remedy="give them to the update: --argv 'PROGRAM ARGUMENT...'")
    ]


def _parent(surroundings: Surroundings) -> list[Finding]:
    """Who will see the process end, with status 0, when its successor takes over."""
    pid, parent = surroundings.pid, surroundings.status.parent
    first = explain_first(surroundings.status)
    if first is not None:
        return [Finding.from_error("parent", first)]
    if parent in (0, _INIT, os.getpid()):
        return [Finding("parent", "ok", "init; it takes no notice of the change")]
    name = read_status(parent).name
    reacts = "restarts it" if name in _SUPERVISORS else "may react"
    return [
        Finding(
            "parent",
            "note",
            f"{parent} ({name}) sees {pid} exit with status 0 and {reacts}; the new one is not its child",
        )
    ]


def _sandbox(pid: int, surroundings: Surroundings) -> list[Finding]:
    found = []
    if surroundings.status.seccomp == _SECCOMP_STRICT:
        text = "strict seccomp: it may only read and write"
        found.append(Finding("sandbox", "refused", text, "seccomp-strict", "it cannot be updated"))
    elif surroundings.status.seccomp:
        found.append(Finding("sandbox", "note", "a seccomp filter; instar suspends it for its own calls"))
    elsewhere = surroundings.foreign_namespaces()
    if elsewhere:
        text = f"it lives in other namespaces ({', '.join(elsewhere)}); the new version is started there"
        text += ", but with a process id of this one" if "pid" in elsewhere else ""
        found.append(Finding("namespaces", "note", text))
    if surroundings.root != "/":
        found.append(Finding("root", "note", f"it lives under {surroundings.root}"))
    return found


def _locked_memory(pid: int) -> list[Finding]:
    locked = _kilobytes(pid, "VmLck")
    if not locked:
        return []
    text = f"{locked} KB are locked in memory (mlock); the new version locks only what its start-up locks"
    return [Finding("locked memory", "note", text)]


def _kilobytes(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    return 0
