"""Faults put into the transfer show when the state is transferred back, and the old version goes on.

Some are put into the future's memory after everything was written, some into the mappings by which the state
is converted. Memory is damaged while the past serves, when all is compared, and in the pause, when only
what changed since is, and the rest must be what it was.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from tests.update.local import LocalTransaction

from instar.metadata.version import Version
from instar.state.columns import Fate, ObjectFlag
from instar.transfer.mappings import MappingPool
from instar.transfer.plan import TransferPlan
from instar.transfer.planner import Planner
from instar.update.options import UpdateOptions
from instar.update.progress import SilentProgress

SOURCE = Path(__file__).parent / "validation" / "table.c"


class Table:
    """The program, spoken to through its pipes by whichever version serves."""

    def __init__(self, program: Path) -> None:
        self.child = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.first = self.ask("sum")

    def ask(self, command: str) -> list[str]:
        """Version and sum."""
        source, sink = self.child.stdout, self.child.stdin
        assert source is not None and sink is not None
        sink.write(f"{command}\n".encode())
        sink.flush()
        return source.readline().decode().split()

    def close(self) -> None:
        """End whoever serves."""
        pipes: tuple[IO[bytes] | None, ...] = (self.child.stdin, self.child.stdout)
        assert pipes[0] is not None and pipes[1] is not None
        pipes[0].close()
        pipes[1].read()
        pipes[1].close()
        self.child.wait()


class Future:
    """The future's memory with names for what is in it.

    Attributes:
        planner: What the future was made from.
    """

    def __init__(self, planner: Planner, memory: Any) -> None:
        self.planner, self.memory = planner, memory
        self.version: Version = planner.new

    def objects(self, kind: str, fate: Fate) -> list[int]:
        """Addresses in the future of blocks of a type of the past."""
        objects = self.planner.state.objects
        types = self.planner.old.find_types(kind)
        live = (objects["flags"] & ObjectFlag.REACHED) != 0
        rows = np.flatnonzero(np.isin(objects["type"], types) & (objects["fate"] == fate) & live)
        rows = rows[objects["kind"][rows] == 0]
        return [int(objects["new_address" if fate == Fate.MOVE else "address"][row]) for row in rows]

    def offset(self, kind: str, member: str) -> int:
        """Of a member in the new version."""
        row = self.version.find_type(kind)
        assert row is not None
        found = [m for m in self.version.members_of(row) if self.version.text(int(m["name"])) == member]
        return int(found[0]["bit_offset"]) // 8

    def size(self, kind: str) -> int:
        """Of a type in the new version."""
        row = self.version.find_type(kind)
        assert row is not None
        return self.version.size_of(row)

    def variable(self, name: str) -> int:
        """Its address in the future."""
        row = self.version.find_variable(name)
        assert row is not None
        return int(self.version.variables["address"][row]) + self.planner.future.subject.load_bias

    def function(self, name: str) -> int:
        """Its address in the future."""
        row = self.version.find_function(name)
        assert row is not None
        return int(self.version.functions["low"][row]) + self.planner.future.subject.load_bias

    def u64(self, address: int) -> int:
        """A word."""
        return int.from_bytes(self.memory.read(address, 8), "little")

    def put(self, address: int, value: int, size: int = 8) -> None:
        """Overwrite; what is put there must be something else than what there was."""
        data = value.to_bytes(size, "little")
        assert self.memory.read(address, size) != data
        self.memory.write(address, data)


Fault = Callable[[Future], None]


def _node(future: Future, index: int = 40) -> int:
    return future.objects("struct node", Fate.MOVE)[index]


def _leaf(future: Future, index: int = 40) -> int:
    return future.objects("struct leaf", Fate.STAY)[index]


def flipped_bit(future: Future) -> None:
    """Of a member of an object that moved."""
    at = _node(future) + future.offset("struct node", "value")
    future.put(at, future.u64(at) ^ (1 << 61))


def flipped_bit_of_a_block_that_stays(future: Future) -> None:
    """Its bytes were copied as they are."""
    at = _leaf(future) + 16
    future.put(at, future.u64(at) ^ 4)


def flipped_bit_of_a_static(future: Future) -> None:
    """``fixed[5].second``."""
    at = future.variable("fixed") + 5 * future.size("struct pair") + 4
    future.put(at, int.from_bytes(future.memory.read(at, 4), "little") ^ 1, 4)


def flipped_sign_of_a_float(future: Future) -> None:
    """``share`` became a double."""
    at = _node(future) + future.offset("struct node", "share")
    future.put(at, future.u64(at) ^ (1 << 63))


def changed_text(future: Future) -> None:
    """A character of an array that grew."""
    at = _node(future) + future.offset("struct node", "name")
    future.put(at, ord("m"), 1)


def wrong_offset(future: Future) -> None:
    """An object written eight bytes too far."""
    at, size = _node(future), future.size("struct node")
    future.memory.write(at + 8, future.memory.read(at, size - 8))


def lost_write(future: Future) -> None:
    """An object that was never written."""
    future.memory.write(_node(future), bytes(future.size("struct node")))


def lost_write_of_a_block_that_stays(future: Future) -> None:
    """A leaf that was never written."""
    future.memory.write(_leaf(future), bytes(24))


def doubled_write(future: Future) -> None:
    """One object in two places."""
    data = future.memory.read(_node(future, 30), future.size("struct node"))
    future.memory.write(_node(future, 31), data)


def doubled_write_of_blocks_that_stay(future: Future) -> None:
    """The same for leaves."""
    future.memory.write(_leaf(future, 30), future.memory.read(_leaf(future, 31), 24))


def one_element_too_few(future: Future) -> None:
    """The last element of an array."""
    (block,) = future.objects("struct pair", Fate.MOVE)
    size = future.size("struct pair")
    future.memory.write(block + 11 * size, bytes(size))


def one_element_too_few_of_a_static(future: Future) -> None:
    """The same for a static array."""
    size = future.size("struct pair")
    future.memory.write(future.variable("fixed") + 7 * size, bytes(size))


def another_object(future: Future) -> None:
    """A pointer to another object of the same type."""
    at = _node(future) + future.offset("struct node", "leaf")
    future.put(at, _leaf(future, 7))


def another_node(future: Future) -> None:
    """The same from a block that stays."""
    future.put(_leaf(future, 50) + 8, _node(future, 3))


def another_in_an_index(future: Future) -> None:
    """The same in an array of pointers that a static holds."""
    at = future.u64(future.variable("index_by_key"))
    future.put(at + 8 * 9, future.u64(at + 8 * 10))


def another_in_a_static(future: Future) -> None:
    """A static array of pointers."""
    at = future.variable("chains")
    future.put(at, future.u64(at + 8))


def inside_an_object(future: Future) -> None:
    """A pointer to the right object, but not to its start."""
    at = future.variable("chains") + 24
    future.put(at, future.u64(at) + 8)


def null_pointer(future: Future) -> None:
    """A pointer that was lost."""
    future.put(_node(future) + future.offset("struct node", "kind"), 0)


def stale_pointer(future: Future) -> None:
    """A block that stays still points where a block was before it moved."""
    at = _leaf(future) + 8
    objects = future.planner.state.objects
    row = np.flatnonzero(objects["new_address"] == np.uint64(future.u64(at)))[0]
    future.put(at, int(objects["address"][row]))


def stale_pointer_of_what_moved(future: Future) -> None:
    """The same between objects that moved."""
    nodes = future.objects("struct node", Fate.MOVE)
    link = future.offset("struct node", "next")
    at = next(node + link for node in nodes if future.u64(node + link))
    objects = future.planner.state.objects
    row = np.flatnonzero(objects["new_address"] == np.uint64(future.u64(at)))[0]
    future.put(at, int(objects["address"][row]))


def other_function(future: Future) -> None:
    """A pointer to another function of the same type."""
    at = _node(future) + future.offset("struct node", "rate")
    other = {future.function(name) for name in ("plain", "twice")} - {future.u64(at)}
    future.put(at, other.pop())


def stale_function(future: Future) -> None:
    """The address that the function had in the old version."""
    at = _node(future) + future.offset("struct node", "rate")
    biases = [image.subject.load_bias for image in (future.planner.past, future.planner.future)]
    future.put(at, future.u64(at) - biases[1] + biases[0] + (biases[0] == biases[1]) * 16)


def other_string(future: Future) -> None:
    """A pointer to another literal."""
    at = _node(future) + future.offset("struct node", "kind")
    nodes = (node + future.offset("struct node", "kind") for node in future.objects("struct node", Fate.MOVE))
    future.put(at, next(v for v in map(future.u64, nodes) if v != future.u64(at)))


def swapped_members(future: Future) -> None:
    """Of the same size and type."""
    places = [_node(future) + future.offset("struct node", name) for name in ("key", "value")]
    values = [future.u64(at) for at in places]
    future.put(places[0], values[1])
    future.put(places[1], values[0])


def missing_initialisation(future: Future) -> None:
    """A member that only the new version has."""
    future.put(_node(future) + future.offset("struct node", "touched"), 0xA5A5)


def stray_write(future: Future) -> None:
    """Into data that only the new version's start-up may have written."""
    future.put(future.variable("own_word"), 99)


def cut_integer(future: Future) -> None:
    """A widened integer whose upper half is not its sign."""
    future.put(_node(future) + future.offset("struct node", "small") + 3, 0x11, 1)


def _own_frame(future: Future) -> Any:
    """That of ``main``, whose code changed."""
    (pair,) = future.planner.pairs
    assert not pair.whole
    return pair.new


def word_of_a_frame(future: Future) -> None:
    """One that no local lies in, of a function whose code changed."""
    frame = _own_frame(future)
    spans = [(local.address, local.address + local.size) for local in frame.locals if local.address]
    words = range(frame.low, frame.high, 8)
    at = next(w for w in words if not any(start - 8 < w < end for start, end in spans))
    future.put(at, future.u64(at) ^ 16)


def place_to_return_to(future: Future) -> None:
    """From ``main``."""
    at = _own_frame(future).high
    future.put(at, future.u64(at) + 4)


MEMORY_FAULTS: list[Fault] = [
    flipped_bit,
    flipped_bit_of_a_block_that_stays,
    flipped_bit_of_a_static,
    flipped_sign_of_a_float,
    changed_text,
    wrong_offset,
    lost_write,
    lost_write_of_a_block_that_stays,
    doubled_write,
    doubled_write_of_blocks_that_stay,
    one_element_too_few,
    one_element_too_few_of_a_static,
    another_object,
    another_node,
    another_in_an_index,
    another_in_a_static,
    inside_an_object,
    null_pointer,
    stale_pointer,
    stale_pointer_of_what_moved,
    other_function,
    stale_function,
    other_string,
    swapped_members,
    missing_initialisation,
    stray_write,
    cut_integer,
    word_of_a_frame,
    place_to_return_to,
]


class Faulty(LocalTransaction):
    """An update with a fault in what was written, at the first writing or in the pause."""

    def __init__(self, table: Table, new: Path, fault: Fault, stage: str, command: str) -> None:
        super().__init__(table.child.pid, new, UpdateOptions(validate=True), SilentProgress())
        self.table, self.fault, self.stage, self.command = table, fault, stage, command
        self.injected = False

    def _quiesce(self) -> None:
        self.table.first = self.table.ask(self.command)
        super()._quiesce()

    def _compare(self, plan: TransferPlan) -> None:
        if (self.clock.paused_at is not None) == (self.stage == "pause"):
            last = self.desk.planning._last
            assert last is not None
            self.fault(Future(last[0], self.driver.future.tracee.memory))
            self.injected = True
        super()._compare(plan)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both versions."""
    return build(SOURCE, tmp_path_factory.mktemp("table"))


def build(source: Path, home: Path) -> list[Path]:
    """Both versions of a program."""
    built = []
    for version in (1, 2):
        target = home / f"{source.stem}-{version}"
        command = ["gcc", "-O1", "-g", f"-DVERSION={version}", "-o", str(target), str(source)]
        subprocess.run(command, check=True)
        built.append(target)
    return built


@contextmanager
def running(program: Path) -> Iterator[Table]:
    """A table that is always ended."""
    table = Table(program)
    try:
        yield table
    finally:
        table.close()


@pytest.mark.parametrize("stage", ["pre-copy", "pause"])
@pytest.mark.parametrize("fault", MEMORY_FAULTS, ids=lambda fault: fault.__name__.replace("_", "-"))
def test_fault_in_memory_is_found(programs: list[Path], fault: Fault, stage: str) -> None:
    with running(programs[0]) as table:
        update = Faulty(table, programs[1], fault, stage, "tick")
        report = update.run()
        assert update.injected
        assert report.error is not None, "the fault was not found"
        assert (report.outcome, report.error.code) == ("rolled-back", "validation-difference"), report.error
        assert table.ask("sum")[0] == "1"


@pytest.mark.parametrize("command", ["sum", "tick"])
def test_no_fault_no_difference(programs: list[Path], command: str) -> None:
    with running(programs[0]) as table:
        update = Faulty(table, programs[1], lambda _: None, "pause", command)
        report = update.run()
        update.driver.channel.close()
        assert report.outcome == "updated", report.error
        assert table.ask("sum") == ["2", table.first[1]]
        assert update.validation is not None
        assert update.validation.objects >= 400 and update.validation.reversed >= 200
        assert update.validation.slots > 1500


def _of(columns: dict[str, Any], path: str, pool: MappingPool) -> Any:
    """Rows of the moves of a member."""
    rows = np.flatnonzero([p == path for p in pool.paths])
    assert not len(pool) or len(rows)
    return rows


def _lost_move(columns: dict[str, Any], pool: MappingPool) -> None:
    rows = _of(columns, ".small", pool)
    columns["moves"]["op"][rows] = columns["moves"]["old_size"][rows] = columns["moves"]["new_size"][rows] = 0


def _far_move(columns: dict[str, Any], pool: MappingPool) -> None:
    columns["moves"]["new_offset"][_of(columns, ".name[]", pool)] += 1


def _short_move(columns: dict[str, Any], pool: MappingPool) -> None:
    rows = _of(columns, ".name[]", pool)
    columns["moves"]["new_size"][rows] = columns["moves"]["old_size"][rows] = 3


def _other_source(columns: dict[str, Any], pool: MappingPool) -> None:
    columns["moves"]["old_offset"][_of(columns, ".next", pool)] += 8


def _cut_pointer(columns: dict[str, Any], pool: MappingPool) -> None:
    rows = _of(columns, ".leaf", pool)
    columns["moves"]["op"][rows] = 0  # bytes as they are: leads to a block that stays, so no fault is seen
    columns["moves"]["old_size"][rows] = columns["moves"]["new_size"][rows] = 4


def _wrong_stride(columns: dict[str, Any], pool: MappingPool) -> None:
    columns["mappings"]["new_size"] += 8


def _wrong_sign(columns: dict[str, Any], pool: MappingPool) -> None:
    rows = _of(columns, ".share", pool)
    columns["moves"]["op"][rows] = 0


@pytest.mark.parametrize(
    "fault",
    [_lost_move, _far_move, _short_move, _other_source, _cut_pointer, _wrong_stride, _wrong_sign],
    ids=lambda fault: fault.__name__.strip("_").replace("_", "-"),
)
def test_fault_in_the_mapping_is_found(
    programs: list[Path],
    fault: Callable[[dict[str, Any], MappingPool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    columns_of = MappingPool.columns

    def columns(pool: MappingPool) -> dict[str, Any]:
        found = {name: column.copy() for name, column in columns_of(pool).items()}
        fault(found, pool)
        return found

    monkeypatch.setattr(MappingPool, "columns", columns)
    with running(programs[0]) as table:
        table.ask(
            "tick"
        )  # the new version's start-up makes the same table: one fault had no effect otherwise
        update = Faulty(table, programs[1], lambda _: None, "pause", "sum")
        report = update.run()
        update.driver.channel.close()
        assert report.error is not None, "the fault was not found"
        assert report.outcome != "updated"
        assert report.error.code == "validation-difference", report.error
        assert table.ask("sum")[0] == "1"
