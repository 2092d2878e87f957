"""Where words lead: the target decides, and the slot's type tells a struct from its first member."""

from __future__ import annotations

import pytest
from tests.unit.transfer.world import World, words

from instar.state.columns import FixedFlag, FixedKind, ObjectFlag, Status
from instar.transfer.targets import Target

TO = 0x7000_0000


class Changed(World):
    """``struct outer { struct inner { long a; int b; } in; struct inner more[3]; long last; }``.

    The new version has ``last`` first and ``b`` before ``a``: every place inside moves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[tuple[int, int, int]] = []
        for builder, is_new in ((self.old, False), (self.new, True)):
            inner = builder.struct("inner", 16)
            builder.member(inner, "a", builder.c_long, 8 if is_new else 0)
            builder.member(inner, "b", builder.c_int, 0 if is_new else 8)
            outer = builder.struct("outer", 72)
            shift = 8 if is_new else 0
            builder.member(outer, "in", inner, shift)
            builder.member(outer, "more", builder.array(inner, 3), 16 + shift)
            builder.member(outer, "last", builder.c_long, 0 if is_new else 64)
            self.kinds.append((inner, outer, builder.c_long))
        self.inner, self.outer, self.long = self.kinds[0]
        self.pointers = {row: self.old.pointer(row) for row in (self.inner, self.outer, self.long, -1)}

    def slot(self, kind: int, value: int) -> int:
        """Where a pointer slot of a type leads, when a static variable holds it."""
        self.heap.root(self.pointers[kind], words(value))
        return value


def value_of(world: World, scan_index: int = 0) -> tuple[int, int]:
    """(status, new value) of the first judged word."""
    scan = world.run()
    found = [*scan.words, *scan.findings]
    assert found, "the word was not judged, or it stays"
    return int(found[scan_index]["status"]), int(found[scan_index]["new_value"])


@pytest.mark.parametrize(
    ("kind", "offset", "expected"),
    [
        ("outer", 0, (Status.MOVED, 0)),
        ("inner", 0, (Status.MOVED, 8)),  # first member: elsewhere than the struct
        ("long", 0, (Status.MOVED, 16)),  # first member of the first member
        ("void", 0, (Status.MOVED, 0)),
        ("inner", 16, (Status.MOVED, 24)),  # array element
        ("inner", 32, (Status.MOVED, 40)),
        ("long", 32, (Status.MOVED, 48)),  # a member of an element
        ("long", 64, (Status.MOVED, 0)),
        ("outer", 72, (Status.MOVED, 72)),  # one past the end
    ],
)
def test_pointers_into_a_block_that_moves(kind: str, offset: int, expected: tuple[Status, int]) -> None:
    world = Changed()
    rows = {"outer": world.outer, "inner": world.inner, "long": world.long, "void": -1}
    world.begin()
    block = world.heap.block(72)
    world.slot(rows[kind], block + offset)
    world.settle()
    world.move(block, world.outer, world.kinds[1][1], TO)
    status, value = value_of(world)
    assert (status, value - TO) == expected


def test_a_pointer_into_padding_is_refused() -> None:
    world = Changed()
    world.begin()
    block = world.heap.block(72)
    world.slot(world.long, block + 13)
    world.settle()
    world.move(block, world.outer, world.kinds[1][1], TO)
    status, _ = value_of(world)
    assert status in (Status.DROPPED, Status.INSIDE)


def test_elements_of_an_array_of_structs() -> None:
    world = Changed()
    world.begin()
    block = world.heap.block(72 * 4)
    world.slot(world.outer, block + 3 * 72)
    world.slot(world.inner, block + 2 * 72 + 16)
    world.slot(world.outer, block + 4 * 72)
    world.settle()
    world.move(block, world.outer, world.kinds[1][1], TO, count=4)
    scan = world.run()
    assert [int(word["new_value"]) - TO for word in scan.words] == [3 * 72, 2 * 72 + 24, 4 * 72]


def test_a_block_that_stays_keeps_every_pointer() -> None:
    world = Changed()
    world.begin()
    block = world.heap.block(72)
    world.slot(world.long, block + 13)
    world.settle()
    world.type(block, world.outer)
    scan = world.run()
    assert not len(scan.words) and not len(scan.findings)
    assert scan.statuses[Status.STAY] == 1
    assert world.lead(block + 13) == (Status.STAY, block + 13)


def test_dangling_small_null_and_wild() -> None:
    world = Changed()
    world.begin()
    block, leaked = world.heap.block(72), world.heap.block(72)
    world.settle()
    world.state.objects["flags"][world.row(leaked)] &= ~int(ObjectFlag.REACHED) & 0xFFFF
    assert world.lead(0)[0] is Status.NULL
    assert world.lead(17)[0] is Status.SMALL
    assert world.lead(2**64 - 1)[0] is Status.SMALL
    assert world.lead(leaked)[0] is Status.DANGLING
    assert world.lead(block - 16)[0] is Status.DANGLING  # before the first block of the heap
    assert world.lead(0x1234_5678_0000) == (Status.WILD, 0x1234_5678_0000)


FUNCTION = Target(0x40_0000, 0x40_0080, 0x50_0040, FixedKind.FUNCTION, FixedFlag.EXACT)
LIBRARY = Target(0x7F00_0000_0000, 0x7F00_0010_0000, 0x7F55_0000_0000, FixedKind.LIBRARY)
STRING = Target(0x41_0000, 0x41_0006, 0x51_0100, FixedKind.STRING)
GONE = Target(0x42_0000, 0x42_0010, 0, FixedKind.STATIC, FixedFlag.UNPAIRED)
UNKNOWN = Target(0x43_0000, 0x43_1000, 0, FixedKind.CONSTANT, FixedFlag.UNRESOLVED)
STACK = Target(0x44_0000, 0x44_1000, 0, FixedKind.STACK, FixedFlag.DANGLING)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (FUNCTION.start, (Status.MOVED, FUNCTION.new_start)),
        (FUNCTION.start + 4, (Status.INSIDE, None)),
        (LIBRARY.start + 0x123, (Status.LIBRARY, LIBRARY.new_start + 0x123)),
        (STRING.start, (Status.MOVED, STRING.new_start)),
        (STRING.start + 3, (Status.MOVED, STRING.new_start + 3)),
        (GONE.start, (Status.UNPAIRED, None)),
        (UNKNOWN.start + 8, (Status.UNRESOLVED, None)),
        (STACK.start + 8, (Status.DANGLING, None)),
    ],
)
def test_fixed_targets(value: int, expected: tuple[Status, int | None]) -> None:
    world = World()
    world.targets.extend([FUNCTION, LIBRARY, STRING, GONE, UNKNOWN, STACK])
    world.begin()
    world.settle()
    status, new = world.lead(value)
    assert status is expected[0]
    assert expected[1] is None or new == expected[1]


@pytest.mark.parametrize(
    ("start", "kinds", "expected"),
    [
        (0x50_1020, ("long", "long"), (Status.MOVED, 0x50_1020)),  # they lie together in both versions
        (0x50_2000, ("long", "long"), (Status.AMBIGUOUS, 0x50_2000)),
        (0x50_2000, ("long", "int"), (Status.MOVED, 0x50_1020)),  # only the array's end is a long
        (0x50_2000, ("int", "long"), (Status.MOVED, 0x50_2000)),
    ],
)
def test_the_end_of_one_variable_and_the_start_of_the_next(
    start: int, kinds: tuple[str, str], expected: tuple[Status, int]
) -> None:
    world = World()
    rows = {"long": world.old.c_long, "int": world.old.c_int}
    pointer = world.old.pointer(rows["long"])
    before, behind = rows[kinds[0]], rows[kinds[1]]
    world.targets.extend(
        [
            Target(0x40_1000, 0x40_1020, 0x50_1000, FixedKind.STATIC, type=before, count=4),
            Target(0x40_1020, 0x40_1040, start, FixedKind.STATIC, type=behind, count=4),
        ]
    )
    world.begin()
    world.heap.root(pointer, words(0x40_1020))
    world.settle()
    assert value_of(world) == expected


def test_words_of_unknown_meaning_are_taken_only_at_the_start() -> None:
    world = Changed()
    world.begin()
    block = world.heap.block(72)
    world.settle()
    world.move(block, world.outer, world.kinds[1][1], TO)
    assert world.lead(block, exact=True) == (Status.MOVED, TO)
    assert world.lead(block + 16, exact=True)[0] is Status.INSIDE


def test_text_over_a_stale_pointer_is_text() -> None:
    world = World()
    world.targets.add(LIBRARY)
    world.begin()
    stale = LIBRARY.start + 0x3720  # " 7\\0" and what is left of a pointer
    text, data = world.heap.block(24, b"asprintf" + words(stale)), world.heap.block(24, words(stale))
    world.settle()
    world.state.objects["flags"][world.row(text)] |= int(ObjectFlag.BYTES)
    scan = world.run()
    assert [int(word["object"]) for word in scan.words] == [world.row(data)]


@pytest.mark.parametrize("offset", [0, 8, 17])
def test_a_word_that_leads_into_a_static_which_stays_in_its_place_is_right(offset: int) -> None:
    world = World()
    world.targets.extend([Target(0x60_0000, 0x60_0040, 0x60_0000, FixedKind.STATIC)])
    world.begin()
    world.settle()
    assert world.lead(0x60_0000 + offset, exact=True) == (Status.STAY, 0x60_0000 + offset)


@pytest.mark.parametrize(("offset", "status"), [(0, Status.MOVED), (8, Status.INSIDE)])
def test_a_word_that_leads_into_a_static_elsewhere_is_not(offset: int, status: Status) -> None:
    world = World()
    world.targets.extend([Target(0x60_0000, 0x60_0040, 0x60_0010, FixedKind.STATIC)])
    world.begin()
    world.settle()
    assert world.lead(0x60_0000 + offset, exact=True)[0] is status
