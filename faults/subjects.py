"""The programs of the campaign as their clients see them: started, filled, worked with, examined.

A subject knows from outside what its state must be; whatever version serves is asked for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import ClassVar

from instar.testing.programs import Program, TalkError, find_marked, wait_until_gone

ROOT = Path(__file__).parents[1]
BUILD = ROOT / ".cache" / "faults"
MARK = "INSTAR_FAULTS_PROGRAM"
PATIENCE_S = 60.0  # a pause is far shorter, but the machine may be busy
SETTLE_S = 5.0


class Subject(ABC):
    """One program with its clients.

    Args:
        home: A directory of its own; the program runs there.

    Attributes:
        name: What it is called on the command line and in results.
        weight: How often it is chosen, in proportion; those that take long less often.
        old, new: The two programs.
        pid: The process that serves.
    """

    name: ClassVar[str]
    weight: ClassVar[int] = 1

    def __init__(self, home: Path) -> None:
        self.home = home
        self.mark = uuid.uuid4().hex
        self.old, self.new = self.programs()
        self.rounds = 0
        home.mkdir(parents=True, exist_ok=True)
        self.pid = self._start()

    @classmethod
    @abstractmethod
    def programs(cls) -> tuple[Path, Path]:
        """Build both versions once."""

    @abstractmethod
    def _start(self) -> int:
        """Start the old version and fill it; returns its process."""

    @abstractmethod
    def work(self) -> None:
        """A change of the state by a client, with a known answer; raises TalkError, OSError, ValueError."""

    @abstractmethod
    def examine(self) -> list[str]:
        """What is wrong with the state, as the clients see it; empty: nothing."""

    @abstractmethod
    def lost_connections(self) -> int:
        """Connections that were closed from the other side."""

    def exhaust(self) -> list[str]:
        """The same after work that frees and uses anew whatever was carried over; ends the usefulness."""
        return []

    def hang_up(self) -> None:  # noqa: B027
        """Let go of connections."""

    @property
    def environment(self) -> dict[str, str]:
        """The program is started with it."""
        return {**os.environ, MARK: self.mark}

    def processes(self) -> list[int]:
        """All living processes of this subject."""
        return [pid for pid in find_marked(MARK, self.mark) if _state(pid) not in "ZX"]

    def settled(self) -> list[int]:
        """The same, when those that die with the tool have had a moment."""
        end = time.monotonic() + SETTLE_S
        while len(found := self.processes()) > 1 and time.monotonic() < end:
            time.sleep(0.01)
        return found

    def still_held(self) -> bool:
        """Whether the serving process stays stopped or traced for longer than a moment."""
        end = time.monotonic() + SETTLE_S
        while _state(self.pid) in "tT" or _tracer(self.pid):
            if time.monotonic() > end:
                return True
            time.sleep(0.01)
        return False

    def close(self) -> None:
        """End whatever serves."""
        self.hang_up()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_until_gone(pid)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _tracer(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("TracerPid:"))


@cache
def build_tables(version: int, flags: Sequence[str] = (), name: str = "") -> Path:
    """programs/tables.c as one of its versions."""
    target = BUILD / f"v{version}{name}" / "tables"
    source = Path(__file__).parent / "programs" / "tables.c"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{uuid.uuid4().hex}")
        command = ["gcc", "-O2", "-g", f"-DVERSION={version}", *flags, "-o", str(part), str(source)]
        subprocess.run(command, check=True)
        part.rename(target)
    return target


class Tables(Subject):
    """Lists, hash tables, a tree; one client, over pipes."""

    name = "tables"
    weight = 5

    @classmethod
    def programs(cls) -> tuple[Path, Path]:
        """Types changed almost everywhere."""
        return build_tables(1), build_tables(2)

    def _start(self) -> int:
        self._program = Program([self.old], environment=self.environment, directory=self.home)
        self._shadow = Program([self.old])  # is told the same, and never updated
        self._keys: list[int] = []
        self._both("fill")
        for _ in range(8):
            self.work()
        return self._program.pid

    def _both(self, command: str) -> None:
        right = self._shadow.ask(command).partition(" ")[2]
        if (found := self._ask(command)) != right:
            raise TalkError(f"{command} is answered by {found}, not {right}")

    def _ask(self, command: str) -> str:
        line = self._program.talk.ask(command, PATIENCE_S)
        if line == "ready":  # said by a new version when it starts to serve
            line = self._program.talk.line(PATIENCE_S)
        version, _, rest = line.partition(" ")
        if version not in ("1", "2"):
            raise TalkError(f"it says {line!r}")
        return rest

    def work(self) -> None:
        """Store one entry, remove another."""
        self.rounds += 1
        self._both(f"put {5000 + self.rounds}")
        self._keys.append(5000 + self.rounds)
        if len(self._keys) > 6:
            self._both(f"del {self._keys.pop(0)}")

    def examine(self) -> list[str]:
        """Its own check, and a sum over everything, which must be its shadow's."""
        try:
            self._both("check")
            self._both("sum")
        except (TalkError, OSError) as error:
            return [str(error)]
        return []

    def exhaust(self) -> list[str]:
        """Everything is freed and built anew: twice, the second time from its own."""
        try:
            self._both("drain")
            self._both("drain")
        except (TalkError, OSError) as error:
            return [str(error)]
        return self.examine()

    def lost_connections(self) -> int:
        """It has none."""
        return 0

    def close(self) -> None:
        """With its pipes."""
        super().close()
        self._program.close()
        self._shadow.close()
