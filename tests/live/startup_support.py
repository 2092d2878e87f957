"""What the live tests of the start-up share: start the future beside a running past, look at both."""

from __future__ import annotations

import bisect
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from instar.control.chains import FunctionNames, clean_name
from instar.control.quiescence import QuiescentPoint, observe_past
from instar.control.startup import Future, StartSpec, start_future
from instar.control.startup_past import PastFacts, read_past
from instar.guard.client import Past
from instar.process.deadline import Deadline

PATIENCE_S = 20.0


def symbol_names(program: Path) -> FunctionNames:
    """Link address -> function by the symbol table (the real thing reads debug information)."""
    listing = subprocess.run(
        ["nm", "-n", "--defined-only", program], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listing.stdout.splitlines()]
    code = [(int(value, 16), name) for value, kind, name in rows if kind in "tTwW"]
    starts = [value for value, _ in code]

    def name(address: int) -> str | None:
        index = bisect.bisect_right(starts, address) - 1
        return clean_name(code[index][1]) if index >= 0 else None

    return name


def build(compile_c: Callable[..., Path], name: str, *flags: str) -> tuple[Path, Path]:
    """A scenario program as version 1 and version 2."""
    source = f"startup_programs/{name}.c"
    return compile_c(source, "-DVERSION=1", *flags), compile_c(source, "-DVERSION=2", *flags)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def ask(port: int, question: str = "hello", family: int = socket.AF_INET) -> str:
    """What the server answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
        sock.sendall(question.encode())
        return sock.recv(256).decode()


def observe(pid: int, program: Path) -> QuiescentPoint:
    """The past's point."""
    past = Past(pid)
    try:
        past.connect()
        return observe_past(past, symbol_names(program), Deadline(PATIENCE_S))
    finally:
        past.close()


def start(
    pid: int,
    old: Path,
    new: Path,
    *,
    arguments: Sequence[str] | None = None,
    allow: Sequence[str] = (),
    start_as: str | None = None,
    timeout: float = PATIENCE_S,
    past: PastFacts | None = None,
) -> Future:
    """Start the new version beside process ``pid``; the caller ends it."""
    point = observe(pid, old)
    given = None if arguments is None else tuple(word.encode() for word in arguments)
    spec = StartSpec(new, symbol_names(new), given, start_as, frozenset(allow))
    return start_future(spec, past or read_past(pid), point, Deadline(timeout))


@contextmanager
def future_of(pid: int, old: Path, new: Path, **options: object) -> Iterator[Future]:
    """A future that is ended afterwards; nothing of it may be left."""
    future = start(pid, old, new, **options)  # type: ignore[arg-type]
    try:
        yield future
    finally:
        assert future.abort() == []
        wait_until(lambda: has_ended(future.pid), "the new version is still there")


def has_ended(pid: int) -> bool:
    """Whether a process is gone (a daemon's zombie is the business of PID 1)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def descriptors(pid: int) -> dict[int, str]:
    """Number -> what it is, as /proc shows it."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that reads our own directory
            found[int(entry.name)] = str(entry.readlink())
    return found


def wait_until(condition: object, what: str) -> None:
    """Until a condition holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.002)
