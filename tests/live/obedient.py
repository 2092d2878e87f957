"""Processes of targets/obey.c for tests: started, told what to do, traced."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import numpy.typing as npt

from instar.native import library_path
from instar.process import ptrace
from instar.process.deadline import Deadline
from instar.process.death import ProcessDiedError
from instar.process.launch import Preparation
from instar.process.tracee import WATCH, Tracee

TARGETS = Path(__file__).parent / "targets"
RECORD = np.dtype([("address", "<u8"), ("size", "<u8"), ("seed", "<u8")])


@cache
def build(name: str, *flags: str) -> Path:
    """Compile targets/NAME.c; the program is kept for the test run."""
    output = Path(mkdtemp(prefix="instar-target-")) / name
    command = ["gcc", "-g", "-O1", *flags, "-o", str(output), str(TARGETS / f"{name}.c"), "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
    return output


class Obedient:
    """One process, its standard input and output in our hands."""

    def __init__(
        self,
        program: Path,
        *,
        preload: bool = True,
        environment: dict[str, str] | None = None,
        errors: int = 2,
    ) -> None:
        self._in, to = os.pipe()
        from_, self._out = os.pipe()
        env = {"PATH": os.environ["PATH"]} | (environment or {})
        if preload:
            old = env.get("LD_PRELOAD")
            env["LD_PRELOAD"] = str(library_path("runtime")) + (f":{old}" if old is not None else "")
        descriptors = {0: self._in, 1: self._out, 2: errors}
        self.tracee = Tracee.launch(
            [str(program)], env, executable=program, prepare=Preparation(descriptors=descriptors)
        )
        self.pid = self.tracee.pid
        self.to, self.from_ = to, from_
        self.started = False

    def park(self) -> Tracee:
        """Let it come to the read of its next line (it is idle) and stop there."""
        tracee = self.tracee
        deadline = Deadline(10)
        if self.started:
            tracee.interrupt(deadline)
            return tracee
        while not self._at_read():
            stop = tracee.run_until_syscall(deadline)
            assert not stop.ended, stop
        assert self.line() == "ready"
        self.started = True
        tracee.options = WATCH  # its threads and children are not followed
        ptrace.request(ptrace.SETOPTIONS, self.pid, None, tracee.options)
        return tracee

    def _at_read(self) -> bool:
        stop = self.tracee.stop
        return (
            stop is not None
            and stop.entry
            and stop.syscall is not None
            and stop.syscall.number == 0
            and stop.syscall.arguments[0] == 0
        )

    def let_go(self) -> None:
        self.tracee.resume("cont")

    def line(self, seconds: float = 20.0) -> str:
        got = b""
        while not got.endswith(b"\n"):
            deadline = Deadline(seconds)
            while not (ready := select.select([self.from_], [], [], 0.01)[0]) and not deadline.expired:
                self._pass_signal()
            if not ready:
                raise TimeoutError(f"no answer, only {got!r}")
            piece = os.read(self.from_, 1)
            if not piece:
                raise EOFError(got.decode())
            got += piece
        return got.decode().rstrip("\n")

    def _pass_signal(self) -> None:
        if self.tracee.stop is None and self.tracee.end is None:
            stop = self.tracee.poll()
            if stop is not None and stop.kind == "signal":
                self.tracee.resume("cont", stop.signal)

    def say(self, text: str, payload: bytes = b"") -> None:
        os.write(self.to, text.encode() + b"\n")
        while payload:
            payload = payload[os.write(self.to, payload[:65536]) :]

    def tell(self, text: str, payload: bytes = b"") -> str:
        """Say a line to the running process and return its answer."""
        self.say(text, payload)
        return self.line()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._in)
            os.close(self._out)
        if self.tracee.end is None:
            with contextlib.suppress(ProcessLookupError, ProcessDiedError):
                self.tracee.kill()  # it may have a stop on its way to the end
        for descriptor in (self.to, self.from_):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@contextlib.contextmanager
def obedient(program: Path | None = None, **options: object) -> Iterator[Obedient]:
    process = Obedient(program or build("obey"), **options)  # type: ignore[arg-type]
    try:
        yield process
    finally:
        process.end()


def pattern(seed: int, size: int) -> npt.NDArray[np.uint8]:
    """What obey.c expects in a block."""
    at = np.arange(size, dtype=np.uint64)
    return (np.uint64(seed) * np.uint64(131) + at * np.uint64(7) + (at >> np.uint64(8))).astype(np.uint8)
