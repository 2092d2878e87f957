"""Builds small C programs once, runs them and talks to them line by line: for tests of live processes."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PATIENCE_S = 20.0
_BUILD_S = 120.0


class BuildError(Exception):
    """A test program does not compile; the text is the compiler's."""


class TalkError(AssertionError):
    """A program did not answer, or ended."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler and how it is called."""

    compiler: str = "gcc"
    optimisation: str = "-O2"
    flags: tuple[str, ...] = ("-g", "-Wall", "-Wextra")

    def __str__(self) -> str:
        return f"{self.compiler}{self.optimisation}"


@cache
def compiler_version(compiler: str) -> str:
    """What ``compiler --version`` says first."""
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


class Builder:
    """Compiles programs into a cache directory; what is there already is used again.

    Args:
        cache: Where programs are kept, each under a key of everything that it is made of.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def build(
        self,
        sources: Mapping[str, Path],
        toolchain: Toolchain,
        *,
        headers: Iterable[Path] = (),
        flags: Sequence[str] = (),
    ) -> Path:
        """The program made of ``sources`` (file name that the compiler sees -> file).

        The names are the same for all versions of a program, as in a source tree that was changed.

        Args:
            sources: Compiled together, in this order.
            toolchain: With what.
            headers: Files that the sources include; their directories are searched.
            flags: Further arguments of the compiler, libraries among them.

        Raises:
            BuildError: The compiler refused.
        """
        found = tuple(headers)
        home = self._cache / self._key(sources, toolchain, found, flags)
        if not (home / "program").exists():
            self._compile(home, sources, toolchain, found, flags)
        return home / "program"

    @staticmethod
    def _key(
        sources: Mapping[str, Path], toolchain: Toolchain, headers: Sequence[Path], flags: Sequence[str]
    ) -> str:
        words = [compiler_version(toolchain.compiler), str(toolchain), *toolchain.flags, *flags, *sources]
        digest = hashlib.sha256("\0".join(words).encode())
        for path in (*sources.values(), *headers):
            digest.update(b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:24]

    def _compile(
        self,
        home: Path,
        sources: Mapping[str, Path],
        toolchain: Toolchain,
        headers: Sequence[Path],
        flags: Sequence[str],
    ) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=self._cache, prefix="building-", ignore_cleanup_errors=True
        ) as directory:
            for name, path in sources.items():
                shutil.copyfile(path, Path(directory, name))
            command = [toolchain.compiler, toolchain.optimisation, *toolchain.flags]
            command += [f"-I{folder}" for folder in sorted({str(path.parent) for path in headers})]
            command += ["-o", "program", *sources, *flags]
            done = subprocess.run(
                command, cwd=directory, capture_output=True, text=True, timeout=_BUILD_S, check=False
            )
            if done.returncode != 0:
                raise BuildError(done.stderr)
            try:
                Path(directory).rename(home)
            except OSError:
                if not (home / "program").exists():  # else another run was faster
                    raise


def _is_readable(descriptor: int, timeout_s: float) -> bool:
    """Whether there is something to read in time (poll: select knows no descriptor above 1023)."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


class Conversation:
    """Lines over the standard input and output of a program, whichever process holds the other ends.

    Args:
        to: Descriptor of the program's input.
        back: Descriptor of its output.
    """

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._rest = b""

    def line(self, timeout_s: float = PATIENCE_S) -> str:
        """The next line it prints.

        Raises:
            TalkError: There is none in time, or the last process that could print one has ended.
        """
        end = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            if left <= 0 or not _is_readable(self._back, left):
                raise TalkError(f"no answer within {timeout_s:g} s")
            data = os.read(self._back, 65536)
            if not data:
                raise TalkError("the program has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def ask(self, command: str, timeout_s: float = PATIENCE_S) -> str:
        """Send a line; the line that answers it.

        Raises:
            TalkError: See ``line``.
        """
        try:
            os.write(self._to, command.encode() + b"\n")
        except BrokenPipeError as error:
            raise TalkError("the program has ended") from error
        return self.line(timeout_s)


class Program:
    """A started program. Its first line must be ``ready``; closing its input ends it.

    Args:
        command: The program and its arguments.
        environment: The whole environment; None: ours.
        directory: Where it is started.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=dict(environment) if environment is not None else None,
            cwd=directory,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.pid = self.process.pid
        self.talk = Conversation(self.process.stdin.fileno(), self.process.stdout.fileno())
        try:
            first = self.talk.line()
        except TalkError:
            self.process.kill()
            self.close()
            raise
        if first != "ready":
            self.close()
            raise TalkError(f"instead of `ready` the program said: {first}")

    def ask(self, command: str) -> str:
        """Send a line; the line that answers it."""
        return self.talk.ask(command)

    def end_input(self) -> None:
        """Close its input, which ends the version that serves."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close(self) -> None:
        """End the process that was started here, and forget it; its successors are the caller's."""
        self.end_input()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def wait_until_gone(pid: int, timeout_s: float = PATIENCE_S) -> bool:
    """Whether a process, any process, ends in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return _is_readable(descriptor, timeout_s)
    finally:
        os.close(descriptor)


def find_marked(name: str, value: str) -> list[int]:
    """Processes that were started with this variable in their environment, zombies not among them."""
    wanted = f"{name}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in words:
            found.append(int(entry.name))
    return found
