"""The campaign: plans injections from a seed, runs them side by side, prints the table, keeps the results."""

from __future__ import annotations

import argparse
import itertools
import queue
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from faults import code, environment, files, futures, handlers, kernels, plans
from faults.ledger import Ledger, Terms
from faults.outcome import BAD, OUTCOMES, Result
from faults.pace import Pace
from faults.runner import Runner
from faults.servers import Dnsmasq, Hallway
from faults.subjects import Subject, Tables

SUBJECTS: dict[str, type[Subject]] = {kind.name: kind for kind in (Tables, Hallway, Dnsmasq)}
#: Types of faults in plans, kernels and code, in the order of the table.
TRANSFER = (
    "branch flipped", "loop stuck", "loop cut short", "missing initialisation", "wrong offset", "wrong width",
    "off-by-one count", "pointer to another object", "stale pointer", "overflow of a neighbour",
    "leaked object", "lost write", "doubled write",
)  # fmt: skip
_LINES = 100  # injections between two lines of progress where there is no terminal
_PLACES = {"kernel": kernels.KINDS, "code": code.KINDS, "plan": plans.KINDS}


@dataclass(frozen=True)
class Fault:
    """One injection to be made."""

    number: int
    place: str
    kind: str
    program: str
    seed: str

    @property
    def row(self) -> str:
        """Of the table."""
        return self.kind if self.place in (*_PLACES, "none") else f"{self.place}: {self.kind}"


def rows() -> list[tuple[str, list[tuple[str, str]]]]:
    """Every row of the table with the (place, kind) that belong to it."""
    found = [("no fault", [("none", "no fault")])]
    found += [
        (kind, [(place, kind) for place, kinds in _PLACES.items() if kind in kinds]) for kind in TRANSFER
    ]
    others = (
        ("handler", handlers.KINDS),
        ("future", futures.KINDS),
        ("environment", environment.KINDS),
        ("input", files.INPUT_KINDS),
    )
    for place, kinds in others:
        found += [(f"{place}: {kind}", [(place, kind)]) for kind in kinds]
    return found


def plan_faults(seed: int, count: int, only: Sequence[str], programs: Sequence[str]) -> list[Fault]:
    """The injections of a campaign: all types in turn, places and programs at random.

    Faults in the transfer come three times as often as the others, as in the paper's experiment.
    """
    wanted = [entry for entry in rows() if not only or any(word in entry[0] for word in only)]
    turn = [entry for entry in wanted for _ in range(3 if entry[0] in TRANSFER else 1)]
    result = []
    for number, (_, places) in zip(range(count), itertools.cycle(turn)):
        rng = random.Random(f"{seed}:{number}")
        place, kind = rng.choice(places)
        program = rng.choices(programs, [SUBJECTS[name].weight for name in programs])[0]
        if place == "handler":
            program = Tables.name  # whose types the handlers are for
        result.append(Fault(number, place, kind, program, f"{seed}:{number}"))
    return result


class Campaign:
    """Runs faults in several threads; each has its own tool and its own programs.

    Args:
        faults: What to inject.
        jobs: How many at once.
        home: For everything that is written.
        paces: How long things may take, by program.
    """

    def __init__(self, faults: Sequence[Fault], jobs: int, home: Path, paces: dict[str, Pace]) -> None:
        self.results: list[Result] = []
        self._paces = paces
        self._todo: queue.SimpleQueue[Fault] = queue.SimpleQueue()
        for fault in faults:
            self._todo.put(fault)
        self._done: queue.SimpleQueue[Result | BaseException | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(home / f"job{i}",)) for i in range(jobs)]

    def run(self) -> Iterator[Result]:
        """The results as they come; clean up on the way out, whatever happens."""
        for thread in self._threads:
            thread.start()
        try:
            working = len(self._threads)
            while working:
                found = self._done.get()
                if found is None:
                    working -= 1
                elif isinstance(found, Result):
                    self.results.append(found)
                    yield found
                else:
                    raise found
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _work(self, home: Path) -> None:
        try:
            with Runner(home, SUBJECTS, self._paces) as runner:
                while not self._stop.is_set():
                    try:
                        fault = self._todo.get_nowait()
                    except queue.Empty:
                        break
                    self._done.put(runner.run(fault))
        except BaseException as error:
            self._done.put(error)
        finally:
            self._done.put(None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign; the exit status is 1 when a fault escaped that docs/promises.md does not name."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="everything follows from it (default 1)")
    parser.add_argument("--count", type=int, default=2100, help="injections (default %(default)s)")
    parser.add_argument("--only", action="append", default=[], metavar="TYPE", help="types that contain this")
    parser.add_argument(
        "--program", action="append", default=[], choices=sorted(SUBJECTS), help="default: all"
    )
    parser.add_argument("--number", type=int, action="append", help="only these injections of the campaign")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="at once (default 2)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="take up a campaign; begin it if need be")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    arguments = parser.parse_args(argv)
    names = tuple(arguments.program or sorted(SUBJECTS))
    terms = Terms(arguments.seed, arguments.count, tuple(arguments.only), names)
    try:
        ledger = Ledger(arguments.resume, terms) if arguments.resume else Ledger.new(terms)
    except ValueError as error:
        parser.error(str(error))
    faults = plan_faults(arguments.seed, arguments.count, arguments.only, names)
    for number in (signal.SIGTERM, signal.SIGINT):  # also where a shell's background ignores Ctrl-C
        signal.signal(number, _interrupt)
    todo = [fault for fault in faults if fault.number not in ledger.results]
    if arguments.number:
        todo = [fault for fault in faults if fault.number in arguments.number]
    perform(todo, arguments.jobs, quiet=arguments.quiet, ledger=ledger)
    print_table(faults, ledger.in_order())
    print(f"all of it: {ledger.path}")
    return 1 if any(one.outcome in BAD and not is_named(one) for one in ledger.in_order()) else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def is_named(result: Result) -> bool:
    """Escapes that no check of ours can find: docs/promises.md, "What faults can still do"."""
    unvalidated = result.place == "handler" and result.kind in handlers.UNVALIDATED
    return unvalidated or (result.place, result.kind) == ("input", "DWARF")


def perform(faults: Sequence[Fault], jobs: int, *, quiet: bool, ledger: Ledger | None = None) -> list[Result]:
    """Run, tell progress; Ctrl-C ends it early and in order."""
    home = Path(tempfile.mkdtemp(prefix="instar-faults-"))
    results: list[Result] = []
    try:
        with suppress(KeyboardInterrupt):
            paces = measure_paces({fault.program for fault in faults}, home / "pace")
            if ledger is not None:
                ledger.begin(paces)
            campaign = Campaign(faults, jobs, home, paces)
            begun = time.monotonic()
            for done, result in enumerate(campaign.run(), 1):
                results.append(result)
                if ledger is not None:
                    ledger.add(result)
                _tell(result, quiet=quiet, progress=(done, len(faults), time.monotonic() - begun))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return results


def _tell(result: Result, *, quiet: bool, progress: tuple[int, int, float]) -> None:
    """What escaped, and how far it is."""
    if result.outcome in BAD:
        print(
            f"\r#{result.number} {result.place}/{result.kind} on {result.program}: "
            f"{result.outcome}: {'; '.join(result.done)[:150]} -> {result.complaints[:2]}",
            flush=True,
        )
    done, count, seconds = progress
    text = f"{done}/{count}, {done / seconds:.2f} a second"
    if not quiet and sys.stdout.isatty():
        print(f"\r{text} ", end="\n" if done == count else "", flush=True)
    elif not quiet and (done % _LINES == 0 or done == count):
        print(text, flush=True)


def measure_paces(programs: Iterable[str], home: Path) -> dict[str, Pace]:
    """From updates without a fault, the first of which fills the cache and is not counted.

    Raises:
        RuntimeError: An update without a fault fails: nothing that a campaign finds would mean anything.
    """
    names = sorted(programs)
    paces = {}
    with Runner(home, SUBJECTS, dict.fromkeys(names, Pace.of(6.0))) as runner:
        for name in names:
            results = [runner.run(Fault(-1, "none", "no fault", name, f"pace:{name}:{n}")) for n in range(4)]
            bad = [result for result in results if result.outcome != "no effect"]
            if bad:
                raise RuntimeError(f"without a fault: {bad[0]}")
            paces[name] = Pace.of(statistics.median(result.seconds for result in results[1:]))
    return paces


def print_table(faults: Sequence[Fault], results: Sequence[Result]) -> None:
    """Rows: types; columns: outcomes."""
    names = {fault.number: fault.row for fault in faults}
    counts: dict[str, Counter[str]] = {}
    for result in results:
        counts.setdefault(names[result.number], Counter())[result.outcome] += 1
    width = max([len(name) for name in counts] or [5])
    print(" " * width + "  count " + " ".join(f"{name:>{max(len(name), 5)}}" for name in OUTCOMES))
    for name, _ in rows():
        if name in counts:
            print(_line(name, counts[name], width))
    total: Counter[str] = sum(counts.values(), Counter())
    print(_line("all", total, width))


def _line(name: str, counts: Counter[str], width: int) -> str:
    cells = " ".join(f"{counts[column] or '.':>{max(len(column), 5)}}" for column in OUTCOMES)
    return f"{name:<{width}} {sum(counts.values()):>6} {cells}"
