"""What is planned in the pause on top of an earlier plan leaves the future as a plan from the start would."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from tests.update.local import LocalTransaction

from instar.process.numbering import DWARF_NAMES
from instar.state.capturer import Capturer
from instar.transfer.plan import TransferPlan
from instar.transfer.planner import Planner
from instar.update import carry
from instar.update.apply import all_ranges, patched
from instar.update.options import UpdateOptions
from instar.update.progress import SilentProgress

SOURCE = Path(__file__).parent / "refresh" / "store.c"


class Store:
    """The store, spoken to through its pipes by whichever version serves."""

    def __init__(self, program: Path) -> None:
        self.child = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ask("fill")
        self.ask("tick 3")

    def ask(self, command: str) -> bytes:
        """One answer."""
        source, sink = self.child.stdout, self.child.stdin
        assert source is not None and sink is not None
        sink.write(f"{command}\n".encode())
        sink.flush()
        return source.readline()

    def close(self) -> None:
        """End whoever serves: both versions read the same pipe."""
        pipes: tuple[IO[bytes] | None, ...] = (self.child.stdin, self.child.stdout)
        assert pipes[0] is not None and pipes[1] is not None
        pipes[0].close()
        pipes[1].read()
        pipes[1].close()
        self.child.wait()


def _patient(handlers: Path | None) -> UpdateOptions:
    return UpdateOptions(handlers=handlers, max_pause_ms=60000.0, timeout=120.0)


class Compared(LocalTransaction):
    """An update with work between the two copies; what it wrote is compared with a plan from the start."""

    def __init__(self, store: Store, new: Path, commands: list[str], handlers: Path | None = None) -> None:
        super().__init__(store.child.pid, new, _patient(handlers), SilentProgress())
        self.store, self.commands = store, commands
        self.compared = 0

    def _quiesce(self) -> None:
        for command in [*self.commands, "sum"]:
            self.before = self.store.ask(command)
        super()._quiesce()

    def _check_past(self) -> None:
        super()._check_past()
        write = self.driver.write

        def write_and_compare(plan: TransferPlan) -> int:
            written = write(plan)
            self._compare(self._plan_from_start())
            return written

        self.driver.write = write_and_compare  # type: ignore[method-assign]

    def _plan_from_start(self) -> TransferPlan:
        capturer = Capturer(self.guard.past, self.old, self.desk.prepared.tables[0])
        past, future = capturer.image(heap=True), self.desk.future
        frames = carry.FramePairing(self.old, self.new, self.desk.pairing.code)
        last = self.desk.planning._last
        assert last is not None
        options = last[0].options
        return Planner(self.desk.prepared, past, future, frames.pair(past, future), {}, options).plan()

    def _compare(self, plan: TransferPlan) -> None:
        future = self.driver.future.tracee
        for kept in all_ranges(plan):
            for start, size in kept.pages.tolist():
                assert future.memory.read(start, size) == patched(kept, start, size).tobytes(), hex(start)
                self.compared += size
        for one in plan.writes:
            assert future.memory.read(one.address, len(one.data)) == bytes(one.data), hex(one.address)
        registers = future.registers()
        for number, value in plan.registers.items():
            assert getattr(registers, DWARF_NAMES[number]) == value


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both versions."""
    return _build(tmp_path_factory.mktemp("refresh"), 20000)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same with fewer objects: handlers take their time."""
    return _build(tmp_path_factory.mktemp("small"), 1000)


def _build(home: Path, count: int) -> list[Path]:
    built = []
    for version in (1, 2):
        target = home / f"store-{version}"
        command = ["gcc", "-O1", "-g", f"-DVERSION={version}", f"-DSTORE_COUNT={count}"]
        command += ["-o", str(target), str(SOURCE)]
        subprocess.run(command, check=True)
        built.append(target)
    return built


@contextmanager
def running(program: Path) -> Iterator[Store]:
    """A store that is always ended."""
    store = Store(program)
    try:
        yield store
    finally:
        store.close()


@pytest.mark.parametrize(
    ("commands", "refreshed"),
    [
        ([], True),
        (["tick 1"], True),
        ([f"tick {i}" for i in range(40)], True),
        (["grow 5"], False),
        (["tick 9", "grow 1", "tick 30"], False),
    ],
    ids=["nothing", "tick", "ticks", "grow", "both"],
)
def test_is_what_a_plan_from_the_start_writes(
    programs: list[Path], commands: list[str], refreshed: bool
) -> None:
    with running(programs[0]) as store:
        update = Compared(store, programs[1], commands)
        report = update.run()
        update.driver.channel.close()
        assert report.outcome == "updated", report.error
        assert update.plan is not None
        assert update.compared > 1 << 20
        assert update.plan.refreshed == refreshed
        assert store.ask("sum") == update.before


# Handlers that look at what does not change, at what does, at other objects, at what rules made of an object,
# and at something that is not in the state.
HANDLERS = {
    "pointer": "return 1 if old.partner else 2",
    "number": "return int(old.level)",
    "other": "return int(old.partner.seen)",
    "new": "return int(new.number)",
    "clock": "return 0 * int(time.monotonic())",
    "alloc": "one = alloc('struct stays'); one.seen = 5 if old.partner else 6; one.partner = old;"
    " return address_of(one)",
    "over": "new.text[23] = ord('Z'); return 1",  # what a rule makes too
}


@pytest.mark.parametrize(
    ("name", "command", "refreshed"),
    [
        ("pointer", "", True),
        ("pointer", "tick 39", True),
        ("pointer", "grow 1", False),
        ("number", "", True),
        ("number", "tick 39", False),
        ("other", "tick 39", False),
        ("new", "tick 39", False),
        ("clock", "", False),
        ("over", "tick 39", True),
        ("alloc", "tick 39", True),
    ],
)
def test_handlers_run_again_where_what_they_read_was_written(
    small: list[Path], tmp_path: Path, name: str, command: str, refreshed: bool
) -> None:
    handlers = tmp_path / "handlers.py"
    handlers.write_text(
        ("import time\n" if name == "clock" else "")
        + "from instar.ext import Struct, address_of, alloc, initialize\n\n"
        + '@initialize("struct moves.added")\n'
        + f"def added(old: Struct, new: Struct) -> int:\n    {HANDLERS[name]}\n"
    )
    with running(small[0]) as store:
        handlers.write_text(f"{handlers.read_text()}\n\n@added.check\ndef right(old, new): pass\n")
        update = Compared(store, small[1], [command] if command else [], handlers)
        report = update.run()
        update.driver.channel.close()
        assert report.outcome == "updated", report.error
        assert update.plan is not None
        assert update.compared > 1 << 16
        assert update.plan.refreshed == refreshed
        assert store.ask("sum") == update.before


KEEPING = """
from instar.ext import Struct, address_of, initialize, on, past

levels, told = {}, []

@initialize("struct moves.added")
def added(old: Struct) -> int:
    if not levels:  # an index, made once
        for head in past.moves:
            while head:
                levels[address_of(head)] = head.level
                head = head.next
    return int(levels[address_of(old)]) + sum(told)

@added.check
def right(old: Struct, new: Struct) -> bool:
    return new.added == old.level + WANTED
"""
EVENT = """
@on("quiesced")
def tell() -> None:
    told.append(100)
"""


@pytest.mark.parametrize("event", [False, True], ids=["index", "event"])
def test_what_a_file_keeps_between_handlers_is_of_the_state_that_goes_over(
    small: list[Path], tmp_path: Path, event: bool
) -> None:
    """An index from before would find freed objects, and old values, when handlers run again in the pause."""
    handlers = tmp_path / "handlers.py"
    text = KEEPING.replace("WANTED", "sum(told)") + EVENT * event
    handlers.write_text(text)
    with running(small[0]) as store:
        update = LocalTransaction(store.child.pid, small[1], _patient(handlers), SilentProgress())
        quiesce = update._quiesce

        def change() -> None:
            store.ask("tick 39")
            store.ask("grow 3")
            quiesce()

        update._quiesce = change  # type: ignore[method-assign]
        report = update.run()
        update.driver.channel.close()
        assert report.outcome == "updated", report.error
