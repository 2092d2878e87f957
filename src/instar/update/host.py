"""What on this machine stands in the way of any update: answered by trying, on a process of our own."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from instar.errors import HostError, InstarError
from instar.native import library_path, load
from instar.process import ptrace
from instar.process.deadline import Deadline
from instar.process.descriptors import duplicate
from instar.process.memory import Memory
from instar.process.tracee import Tracee
from instar.process.written import is_possible
from instar.update.access import (
    CAP_SYS_PTRACE,
    explain_sandbox,
    has_capability,
    yama_remedy,
    yama_scope,
    yama_text,
)
from instar.update.findings import Finding
from instar.update.journal import journal_path
from instar.update.sandbox import LOOKING_BOUND, landlock_version, try_confinement

_OLDEST_GLIBC = (2, 31)
_STOP_S = 5.0
_LEAST_FREE = 64 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def examine_host() -> list[Finding]:
    """Every question about the machine, in the order in which they matter."""
    questions: tuple[Callable[[], Finding], ...] = (
        _platform,
        _native,
        _libdw,
        _tracing,
        _yama,
        _glibc,
        _journal,
        _write_tracking,
        _confinement,
        _compiler,
    )
    return [question() for question in questions]


def _platform() -> Finding:
    kernel, machine = platform.release(), platform.machine()
    if platform.system() == "Linux" and machine == "x86_64":
        return Finding("platform", "ok", f"Linux {kernel} on {machine}")
    return Finding(
        "platform",
        "host",
        f"{platform.system()} on {machine}; instar knows Linux on x86-64 only",
        "wrong-platform",
        "run it on Linux on an x86-64 machine",
    )


def _native() -> Finding:
    try:
        load("kernels")
        library_path("runtime")
    except HostError as error:
        return Finding.from_error("native part", error)
    return Finding("native part", "ok", f"built, in {library_path('kernels').parent}")


def _libdw() -> Finding:
    try:
        load("dwarf")
    except HostError as error:
        return Finding.from_error("libdw", error)
    return Finding("libdw", "ok", "loaded (debug information, unwinding)")


def _tracing() -> Finding:
    """Trace a process that is not our child, as a server is not; every request an update needs."""
    sandboxed = explain_sandbox()
    if sandboxed is not None:
        return Finding.from_error("tracing", sandboxed)
    try:
        with _orphan() as pid:
            _try_tracing(pid)
    except InstarError as error:
        return Finding.from_error("tracing", error)
    except OSError as error:
        kernel = error.errno in (errno.ENOSYS, errno.EIO, errno.EINVAL)
        return Finding(
            "tracing",
            "host",
            f"a request that instar needs failed: {error.strerror}",
            "ptrace-incomplete" if kernel else "ptrace-denied",
            "use Linux 5.6 or later" if kernel else "run instar as root",
        )
    return Finding(
        "tracing", "ok", "tried on a process of our own: stop, look, duplicate a descriptor, let go"
    )


def _try_tracing(pid: int) -> None:
    tracee = Tracee.seize(pid, exitkill=True)
    try:
        tracee.interrupt(Deadline(_STOP_S))
        registers = tracee.registers()
        Memory(pid).read(registers.rsp, 8)
        ptrace.get_syscall_info(pid)
        os.close(duplicate(pid, 0))
        tracee.rewind_syscall()
    finally:
        tracee.detach()


@contextlib.contextmanager
def _orphan() -> Iterator[int]:
    """A process of ours that is nobody's child here; it waits for our end of a pipe and ends with it."""
    reader, writer = os.pipe()
    answers, tell = os.pipe()
    child = os.fork()
    if child == 0:
        _become_orphan(reader, writer, tell)
    os.close(reader)
    os.close(tell)
    try:
        os.waitpid(child, 0)
        (pid,) = struct.unpack("<i", os.read(answers, 4))
        yield pid
    finally:
        os.close(writer)
        os.read(answers, 1)  # its end closes the last copy
        os.close(answers)


def _become_orphan(reader: int, writer: int, tell: int) -> None:
    """In the child: fork once more and end, so that init or a subreaper adopts the grandchild."""
    try:
        if os.fork() == 0:
            os.close(writer)
            os.dup2(reader, 0)
            os.write(tell, struct.pack("<i", os.getpid()))
            os.read(0, 1)
    finally:
        os._exit(0)


def _yama() -> Finding:
    scope = yama_scope()
    if scope == 0:
        return Finding("Yama", "ok", "does not restrict tracing")
    if scope < 3 and has_capability(CAP_SYS_PTRACE):
        return Finding("Yama", "ok", f"{yama_text(scope)}; instar has CAP_SYS_PTRACE")
    return Finding("Yama", "host", yama_text(scope), "ptrace-denied", yama_remedy(scope))


def _glibc() -> Finding:
    name, version = platform.libc_ver()
    numbers = tuple(int(word) for word in version.split(".")[:2] if word.isdigit())
    if name == "glibc" and numbers >= _OLDEST_GLIBC:
        return Finding("libc", "ok", f"glibc {version}")
    return Finding(
        "libc",
        "note",
        f"this machine's libc is {name or 'unknown'} {version}; programs in containers may have another",
        remedy="instar knows the heap of glibc 2.31 and later",
    )


def _journal() -> Finding:
    place = journal_path()
    parent = next((path for path in place.parents if path.exists()), Path("/"))
    if not os.access(parent, os.W_OK) or (place.exists() and not os.access(place, os.W_OK)):
        return Finding("journal", "note", f"{place} may not be written", remedy=f"make {parent} writable")
    free = shutil.disk_usage(parent).free
    if free < _LEAST_FREE:
        return Finding(
            "journal",
            "note",
            f"only {free >> 20} MB are free at {parent}",
            remedy="make room; an update goes on without the journal",
        )
    return Finding("journal", "ok", str(place))


def _write_tracking() -> Finding:
    """Whether the kernel tells the pages written since a moment."""
    if is_possible():
        text = "userfaultfd and PAGEMAP_SCAN: what nobody wrote is not compared again in the pause"
        return Finding("write tracking", "ok", text)
    text = "not in this kernel (Linux 6.7), or not allowed: all is compared in the pause, which takes longer"
    return Finding("write tracking", "note", text)


def _confinement() -> Finding:
    """What bounds the process that plans and runs the user's handlers."""
    missing = try_confinement()
    if not missing:
        return Finding("worker", "ok", f"confined (seccomp, Landlock {landlock_version()}, no capabilities)")
    text = f"confined without {', '.join(missing)}: handlers can do more than they should"
    if any(name.startswith(LOOKING_BOUND) for name in missing):
        remedy = "use a kernel with Landlock, or allow user namespaces, or read handlers before you run them"
        return Finding("worker", "note", f"{text}, and read the old version's memory", remedy=remedy)
    return Finding("worker", "note", text)


def _compiler() -> Finding:
    found = [name for name in ("gcc", "clang") if shutil.which(name)]
    if found:
        return Finding("compilers", "ok", f"{' and '.join(found)} (to build the new version with -g)")
    return Finding(
        "compilers", "note", "neither gcc nor clang is here; the new version must come from elsewhere"
    )
