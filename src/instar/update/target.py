"""What in one process stands in the way of updating it, and what is good to know before."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from instar.control.descriptors import Action, decide
from instar.control.quiescence import require_single
from instar.control.startup_launch import recover_arguments, recover_environment
from instar.errors import InstarError
from instar.metadata.version import Version
from instar.process.descriptors import list_descriptors
from instar.process.status import executable_name, read_status
from instar.process.surroundings import Surroundings, read_surroundings
from instar.update.access import user_name
from instar.update.endings import explain_manager, explain_terminal, unit_of
from instar.update.findings import Finding
from instar.update.preflight import explain_first, explain_stopped, load_running, require_reach

_DELETED = " (deleted)"
_SECCOMP_STRICT = 1
_INIT = 1
_SUPERVISORS = ("systemd", "init", "runit", "s6-supervise", "supervisord", "tini", "dumb-init", "docker-init")


def examine_target(pid: int) -> list[Finding]:
    """Every question about a process that may be asked without stopping it."""
    try:
        refusal = _refusal(lambda: require_reach(pid))
        if refusal is not None:
            return [Finding.from_error("process", refusal)]
        status = read_status(pid)
        who = f"{pid} ({status.name}) of user {user_name(status.uids[1])}, {_state(status.state)}"
        return [Finding("process", "ok", f"{who}; it may be traced"), *_look_inside(pid)]
    except InstarError as error:  # it ended meanwhile, or changed its user
        return [Finding.from_error("process", error)]


def _refusal(check: Callable[[], object]) -> InstarError | None:
    """What a check raises."""
    try:
        check()
    except InstarError as error:
        return error
    return None


def _state(letter: str) -> str:
    return {"S": "waiting", "R": "running", "D": "in an uninterruptible call", "T": "stopped"}.get(
        letter, letter
    )


def _look_inside(pid: int) -> list[Finding]:
    surroundings = read_surroundings(pid)
    questions: tuple[Callable[[], list[Finding]], ...] = (
        lambda: _program(pid),
        lambda: [_one("state", explain_stopped(pid), "not stopped by a signal")],
        lambda: [_one("threads, children", _refusal(lambda: require_single(pid)), "one thread, no children")],
        lambda: _descriptors(pid),
        lambda: [_one("arguments", _refusal(lambda: recover_arguments(pid)), "as at the start, in memory")],
        lambda: [
            _one("environment", _refusal(lambda: recover_environment(pid)), "as at the start, in memory")
        ],
        lambda: parent_notes(surroundings),
        lambda: [_one("terminal", explain_terminal(surroundings), "does not end with it")],
        lambda: _sandbox(surroundings),
        lambda: _locked_memory(pid),
    )
    return [finding for question in questions for finding in question()]


def _one(subject: str, error: InstarError | None, otherwise: str) -> Finding:
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
    counts = {"unit": version.units, "variable": version.variables, "function": version.functions}
    listed = ", ".join(
        f"{len(rows):,} {noun}{'' if len(rows) == 1 else 's'}" for noun, rows in counts.items()
    )
    text = f"{listed}; build-id {version.build_id[:12] or 'none'}"
    return Finding("debug information", "ok", text)


def _descriptors(pid: int) -> list[Finding]:
    planned = [decide(descriptor) for descriptor in list_descriptors(pid, sockets=False)]
    refused = [
        Finding(
            "descriptors",
            "refused",
            f"{one.descriptor.number} ({one.descriptor.target}): {one.reason}",
            "descriptor-not-carried",
            "run the program without it, if it has an option for that",
        )
        for one in planned
        if one.action is Action.REFUSE
    ]
    kinds = Counter(one.descriptor.kind for one in planned)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return refused or [Finding("descriptors", "ok", f"{len(planned)}: {listed}" if listed else "none")]


def parent_notes(surroundings: Surroundings) -> list[Finding]:
    """Who will see the process end, with status 0, when its successor takes over."""
    pid, parent = surroundings.pid, surroundings.status.parent
    first = explain_first(surroundings.status)
    if first is not None:
        return [Finding.from_error("parent", first)]
    if unit := unit_of(surroundings):
        refusal = explain_manager(surroundings)
        text = f"systemd takes the new version for the main process of {unit}"
        return [_one("parent", refusal, text)]
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


def _sandbox(surroundings: Surroundings) -> list[Finding]:
    found = []
    if surroundings.status.seccomp == _SECCOMP_STRICT:
        text = "strict seccomp: it may only read and write"
        found.append(Finding("sandbox", "refused", text, "seccomp-strict", "it cannot be updated"))
    elif surroundings.status.seccomp:
        found.append(
            Finding(
                "sandbox",
                "note",
                "a seccomp filter, which the new version may be without; suspended for instar's calls",
            )
        )
    elsewhere = surroundings.foreign_namespaces()
    if "pid" in elsewhere:
        text = "it lives in a PID namespace of its own"
        found.append(Finding("namespaces", "refused", text, "pid-namespace", "run instar in the container"))
    elif elsewhere:
        text = f"it lives in other namespaces ({', '.join(elsewhere)}); the new version is started there"
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
