"""Updates in a row, there and back, under client load: `make soak` (``python -m faults.soak``).

The example server goes from version 1 to 2 and back, again and again, while its clients work. At the end
every client's data must be right, and nothing may have grown: descriptors, memory, files, the time that an
update takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faults.ledger import RESULTS
from faults.outcome import read_report
from faults.runner import Tool
from faults.servers import Hallway
from faults.subjects import Subject
from instar.testing.programs import TalkError

_PACE_S, _TOOL_S, _TRIES = 0.004, 60.0, 5


@dataclass(frozen=True)
class Measure:
    """What is there after an update.

    Attributes:
        descriptors: Of the server.
        rss_kb, mappings: Of the server.
        tool_kb: The most that the tool used.
        files, file_kb: Cache, journal, kept versions, temporary files, /dev/shm.
        pause_ms, total_ms: Of the update.
    """

    descriptors: int
    rss_kb: int
    mappings: int
    tool_kb: int
    files: int
    file_kb: int
    pause_ms: float
    total_ms: float


class Soak:
    """One server, updated again and again.

    Args:
        home: For everything that is written.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("cache", "state", "tmp", "work"):
            (home / name).mkdir(parents=True)
        self.subject: Subject = Hallway(home / "hallway")
        self.tool = Tool()
        self.measures: list[Measure] = []
        self.refused: list[str] = []

    def close(self) -> None:
        """End both."""
        self.tool.close()
        self.subject.close()

    def run(self, count: int, *, quiet: bool) -> None:
        """So many updates; raises AssertionError when one fails or a client complains."""
        for number in range(count):
            self._update(self.subject.new if number % 2 == 0 else self.subject.old)
            if not quiet and number % 10 == 9:
                print(f"\r{number + 1}/{count} ", end="", flush=True)
        wrong = self.subject.examine()
        assert not wrong, wrong
        assert not self.subject.lost_connections()
        wrong = self.subject.exhaust()
        assert not wrong, wrong

    def _update(self, program: Path) -> None:
        """One; a refusal that only says "not now" is tried again, and counted."""
        for _ in range(_TRIES):
            report = self._attempt(program)
            if report["outcome"] == "updated":
                return
            self.refused.append(report["error"]["code"])
        raise AssertionError(f"not updated: {report['error']}")

    def _attempt(self, program: Path) -> dict[str, Any]:
        import select

        work = self.home / "work"
        request = {
            "argv": ["update", str(self.subject.pid), str(program), "--json", "--quiet", "--timeout", "30"],
            "environment": {
                "XDG_CACHE_HOME": str(self.home / "cache"),
                "XDG_STATE_HOME": str(self.home / "state"),
                "TMPDIR": str(self.home / "tmp"),
            },
            "fault": {"place": "none", "kind": "no fault", "seed": 0},
            "output": str(work / "output"),
            "errors": str(work / "errors"),
            "log": str(work / "log"),
        }
        pid, poll, most = self.tool.start(request), select.poll(), 0
        poll.register(self.tool.fileno(), select.POLLIN)
        end = time.monotonic() + _TOOL_S
        while not poll.poll(_PACE_S * 1000):
            assert time.monotonic() < end, "the tool does not end"
            try:
                self.subject.work()
            except (TalkError, OSError) as error:
                raise AssertionError(f"a client: {error}") from error
            most = max(most, _status(pid, "VmHWM"))
        self.tool.status()
        report = read_report(work / "output")
        assert report is not None, (work / "errors").read_text()
        if report["outcome"] == "updated":
            self.subject.pid = report["new_pid"]
            self.measures.append(self._measure(report, most))
        return report

    def _measure(self, report: dict[str, Any], tool_kb: int) -> Measure:
        pid = self.subject.pid
        places = [self.home / name for name in ("cache", "state", "tmp")]
        files = [path for place in places for path in place.rglob("*") if path.is_file()]
        shared = [path for path in Path("/dev/shm").glob("*instar*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        return Measure(
            len([*Path(f"/proc/{pid}/fd").iterdir()]),
            _status(pid, "VmRSS"),
            len(Path(f"/proc/{pid}/maps").read_text().splitlines()),
            tool_kb,
            len(files) + len(shared),
            size // 1024,
            report["pause_ms"],
            report["total_ms"],
        )


def _status(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def growth(measures: Sequence[Measure]) -> dict[str, tuple[float, float, float]]:
    """Per figure the median of the first and of the last tenth of the updates, and their ratio.

    The first two are left out: caches fill, and the first update makes the inherited ranges.
    """
    steady = measures[2:]
    tenth = max(len(steady) // 10, 2)
    found = {}
    for name in Measure.__dataclass_fields__:
        first = statistics.median(getattr(one, name) for one in steady[:tenth])
        last = statistics.median(getattr(one, name) for one in steady[-tenth:])
        found[name] = (first, last, last / first if first else 1.0)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Soak; a table, all figures in faults/results."""
    parser = argparse.ArgumentParser(prog="faults.soak", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="updates (default %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    arguments = parser.parse_args(argv)
    failed: AssertionError | None = None
    with tempfile.TemporaryDirectory(prefix="instar-soak-") as home:
        soak = Soak(Path(home))
        try:
            soak.run(arguments.count, quiet=arguments.quiet)
        except (AssertionError, KeyboardInterrupt) as error:  # what was measured until then is worth having
            failed = error if isinstance(error, AssertionError) else AssertionError("interrupted")
        finally:
            soak.close()
    print(f"\n{len(soak.measures)} updates, {len(soak.refused)} tries refused {Counter(soak.refused)}")
    if failed is not None:
        print(f"failed: {failed}")
    print_growth(soak.measures)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"soak-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps([asdict(one) for one in soak.measures]) + "\n")
    return 0 if failed is None else 1


def print_growth(measures: Sequence[Measure]) -> None:
    """A line for each figure."""
    print(f"{'':<12} {'first tenth':>12} {'last tenth':>12} {'ratio':>7}")
    for name, (first, last, ratio) in growth(measures).items():
        print(f"{name:<12} {first:>12.1f} {last:>12.1f} {ratio:>7.2f}")


if __name__ == "__main__":
    sys.exit(main())
