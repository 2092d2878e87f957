"""Inherited ranges in a real process: malloc, free, realloc, threads, fork, and reading them from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.live.obedient import RECORD, Obedient, build, obedient, pattern

from instar.control.runtime import AddressTakenError, Runtime, RuntimeCallError
from instar.errors import RefusedError
from instar.heap.inherited import BLOCK, LIBRARY, read_inherited
from instar.process.deadline import Deadline
from instar.process.exports import find_exports
from instar.process.maps import read_maps

BASE = 0x1000_0000_0000
PAGE = 4096


def lay_out(rng: np.random.Generator, start: int, size: int, granule: int = 16) -> npt.NDArray[np.void]:
    """Blocks as an allocator leaves them: headers, holes, a few large ones."""
    at, end, rows = start + granule, start + size, []
    while True:
        length = int(
            rng.choice([24, 40, 72, 104, 1032, 5000, 70000], p=[0.4, 0.2, 0.2, 0.1, 0.06, 0.03, 0.01])
        )
        if at + length > end:
            break
        if rng.random() < 0.8:
            rows.append((at, length))
        at += (length + 8 + granule - 1) // granule * granule
        if rng.random() < 0.02:
            at += int(rng.integers(1, 5)) * PAGE
    return np.array(rows, BLOCK)


def inherit(process: Obedient, blocks: npt.NDArray[np.void], ranges: list[tuple[int, int]]) -> Runtime:
    """What an update does: map, fill, tell; then the program is told that the blocks are its own."""
    tracee = process.park()
    runtime = Runtime(tracee)
    runtime.map_ranges([start for start, _ in ranges], [size for _, size in ranges])
    runtime.set_blocks(blocks)
    data = np.concatenate([pattern(i, int(row["size"])) for i, row in enumerate(blocks)])
    tracee.memory.write_spans(blocks["address"], blocks["size"], data)
    process.let_go()
    records = np.zeros(len(blocks), RECORD)
    records["address"], records["size"] = blocks["address"], blocks["size"]
    records["seed"] = np.arange(len(blocks))
    assert process.tell(f"own {len(records)}", records.tobytes()) == "done"
    return runtime


def read_again(process: Obedient) -> npt.NDArray[np.void]:
    tracee = process.park()
    return read_inherited(tracee.memory, read_maps(process.pid)).blocks


@pytest.fixture
def process() -> Iterator[Obedient]:
    with obedient() as found:
        yield found


RANGES = [(BASE, 1 << 20), (BASE + (1 << 24), 64 * PAGE), (BASE + (1 << 28), PAGE)]


def random_blocks(seed: int) -> npt.NDArray[np.void]:
    rng = np.random.default_rng(seed)
    return np.concatenate([lay_out(rng, start, size) for start, size in RANGES])


@pytest.mark.parametrize(("seed", "threads"), [(1, 1), (2, 4), (3, 8)])
def test_inherited_blocks_live_and_die_like_any_other(process: Obedient, seed: int, threads: int) -> None:
    blocks = random_blocks(seed)
    inherit(process, blocks, RANGES)
    assert np.array_equal(read_again(process), blocks)
    process.let_go()
    assert process.tell(f"churn {seed} 2000 {threads}") == "done"
    left = read_again(process)
    assert 0 < len(left) < len(blocks)
    assert np.isin(left["address"], blocks["address"]).all()
    process.let_go()
    assert process.tell(f"fork {seed} 20000") == "done"
    assert process.tell("drop") == "done"
    assert len(read_again(process)) == 0
    # Ranges without blocks are gone altogether, and so is their table.
    assert not [m for m in read_maps(process.pid) if BASE <= m.start < BASE + (1 << 30)]


def test_pages_without_blocks_are_given_back(process: Obedient) -> None:
    size = 256 * PAGE
    blocks = np.zeros(256 * 8, BLOCK)
    blocks["address"] = BASE + 16 + np.arange(len(blocks)) * 512
    blocks["size"] = 488
    runtime = inherit(process, blocks, [(BASE, size)])
    assert process.tell(f"resident {BASE:x} {size:x}") == "256"
    keep = np.arange(len(blocks)) % 64 == 5  # one in every eighth page
    process.tracee.interrupt(_soon())
    runtime.release(np.ascontiguousarray(blocks["address"][~keep]))
    process.let_go()
    assert process.tell(f"resident {BASE:x} {size:x}") == "32"
    assert np.array_equal(read_again(process), blocks[keep])


def test_a_large_block_shrinks_in_place_and_gives_pages_back(process: Obedient) -> None:
    size = 64 * PAGE
    blocks = np.array([(BASE + 16, size - 24 - PAGE), (BASE + size - PAGE + 8, 64)], BLOCK)
    runtime = inherit(process, blocks, [(BASE, size)])
    tracee = process.tracee
    tracee.interrupt(_soon())
    exports = find_exports(tracee.memory, read_maps(process.pid), LIBRARY)
    assert exports is not None
    moved = tracee.call(exports.symbols["realloc"], BASE + 16, 5000)
    assert moved == BASE + 16
    assert tracee.memory.read(BASE + 16, 5000) == pattern(0, 5000).tobytes()
    assert runtime.ranges()["live_count"].tolist() == [2]
    process.let_go()
    assert process.tell(f"resident {BASE:x} {size:x}") == "3"
    assert process.tell(f"usable {BASE + 16:x}") == str((5000 + 15) // 16 * 16)
    assert process.tell(f"usable {BASE + size - PAGE + 8:x}") == "64"


@pytest.mark.parametrize("offset", [16, 0, 24, 600])
def test_a_wrong_free_aborts(tmp_path: Path, offset: int) -> None:
    """A free of a freed block (16), of a header, an inside, a hole."""
    blocks = np.array([(BASE + 16, 40), (BASE + 64, 40)], BLOCK)
    with (tmp_path / "errors").open("w+") as errors, obedient(errors=errors.fileno()) as process:
        inherit(process, blocks, [(BASE, PAGE)])
        if offset == 16:
            assert process.tell(f"free {BASE + 16:x}") == "done"
        process.say(f"free {BASE + offset:x}")
        stop = process.tracee.wait(_soon())
        assert stop.kind == "signal" and stop.signal == 6
        assert "inherited block" in (tmp_path / "errors").read_text()


def test_a_taken_address_is_refused_whole(process: Obedient) -> None:
    tracee = process.park()
    runtime = Runtime(tracee)
    maps = read_maps(process.pid)
    stack = next(m for m in maps if m.path == "[stack]")
    with pytest.raises(AddressTakenError) as info:
        runtime.map_ranges([BASE, stack.start - PAGE], [PAGE, 2 * PAGE])
    assert info.value.start == stack.start - PAGE
    assert info.value.code == "address-taken"
    assert not [m for m in read_maps(process.pid) if m.start == BASE]
    assert len(runtime.ranges()) == 0


def test_a_range_grows_and_shrinks_before_the_commit(process: Obedient) -> None:
    runtime = Runtime(process.park())
    runtime.map_ranges([BASE], [4 * PAGE])
    runtime.set_blocks(np.array([(BASE + 16, 100)], BLOCK))
    runtime.map_ranges([BASE, BASE - 8 * PAGE], [9 * PAGE, PAGE])
    blocks = np.array([(BASE - 8 * PAGE + 32, 9), (BASE + 16, 100), (BASE + 16 + 112, 7 * PAGE)], BLOCK)
    runtime.set_blocks(blocks)
    assert runtime.ranges()["start"].tolist() == [BASE - 8 * PAGE, BASE]
    assert np.array_equal(read_inherited(runtime.memory, read_maps(process.pid)).blocks, blocks)
    runtime.map_ranges([BASE], [PAGE])
    runtime.set_blocks(blocks[:2])
    assert np.array_equal(read_inherited(runtime.memory, read_maps(process.pid)).blocks, blocks[:2])
    runtime.unmap_ranges([BASE], [PAGE])
    assert np.array_equal(read_inherited(runtime.memory, read_maps(process.pid)).blocks, blocks[:1])
    mapped = [m for m in read_maps(process.pid) if BASE - 8 * PAGE <= m.start < BASE + 16 * PAGE]
    assert [(m.start, m.end) for m in mapped] == [(BASE - 8 * PAGE, BASE - 7 * PAGE)]


def test_plain_memory_is_mapped_and_never_freed_into(process: Obedient) -> None:
    runtime = Runtime(process.park())
    runtime.map_ranges([BASE, BASE + PAGE], [PAGE, PAGE], plain=[True, True], protections=[1, 3])
    maps = {m.start: m.perms for m in read_maps(process.pid)}
    assert maps[BASE] == "r--p" and maps[BASE + PAGE] == "rw-p"
    assert len(runtime.ranges()) == 0


def test_blocks_of_many_gigabytes_and_odd_alignment(process: Obedient) -> None:
    runtime = Runtime(process.park())
    huge = 5 << 30
    runtime.map_ranges([BASE, BASE + (1 << 40)], [huge + PAGE, PAGE])
    blocks = np.array(
        [
            (BASE + 16, huge - 16),
            (BASE + huge + 64, 64),
            (BASE + (1 << 40) + 8, 8),
            (BASE + (1 << 40) + 24, 8),
        ],
        BLOCK,
    )
    runtime.set_blocks(blocks)
    assert runtime.ranges()["wide"].tolist() == [1, 0]
    assert runtime.ranges()["granule_shift"].tolist() == [0, 3]
    assert np.array_equal(read_inherited(runtime.memory, read_maps(process.pid)).blocks, blocks)
    process.let_go()
    assert process.tell(f"usable {BASE + 16:x}") == str(huge - 16)
    assert process.tell(f"free {BASE + 16:x}") == "done"
    assert process.tell(f"free {BASE + (1 << 40) + 24:x}") == "done"
    assert np.array_equal(read_again(process), blocks[1:3])


@pytest.mark.parametrize(
    "rows",
    [[(BASE + 16, 40), (BASE + 48, 40)], [(BASE + 4000, 100)], [(BASE + 16, 0)]],
    ids=["overlap", "end", "zero"],
)
def test_impossible_tables_are_rejected(process: Obedient, rows: list[tuple[int, int]]) -> None:
    runtime = Runtime(process.park())
    runtime.map_ranges([BASE], [PAGE])
    with pytest.raises(RuntimeCallError) as info:
        runtime.set_blocks(np.array(rows, BLOCK))
    assert info.value.errno == 22


def test_bulk_allocation_with_alignment(process: Obedient) -> None:
    runtime = Runtime(process.park())
    sizes = np.arange(1, 5001, dtype=np.uint64) * 3
    alignments = np.where(np.arange(5000) % 3 == 0, 4096, 16)
    addresses = runtime.allocate(sizes, alignments)
    assert (addresses % alignments.astype(np.uint64) == 0).all()
    order = np.argsort(addresses)
    assert (addresses[order][:-1] + sizes[order][:-1] <= addresses[order][1:]).all()
    runtime.release(addresses)
    process.let_go()
    assert process.tell("echo alive").startswith("alive")


@pytest.mark.parametrize(
    ("old", "seen"), [(None, "none/none"), ("", "/"), ("/lib/x86_64-linux-gnu/libm.so.6", None)]
)
def test_children_and_the_program_never_see_the_library(old: str | None, seen: str | None) -> None:
    environment = {} if old is None else {"LD_PRELOAD": old}
    with obedient(environment=environment) as process:
        process.park()
        process.let_go()
        assert process.tell("environment") == (seen if seen is not None else f"{old}/{old}")
        assert b"instar" not in Path(f"/proc/{process.pid}/environ").read_bytes()


def test_a_future_without_the_library_is_refused() -> None:
    with obedient(preload=False) as process, pytest.raises(RefusedError) as info:
        Runtime(process.park())
    assert info.value.code == "runtime-missing"


def test_a_program_with_its_own_free_is_refused() -> None:
    with obedient(build("obey", "-DOWN_FREE", "-Wl,--export-dynamic")) as process:
        with pytest.raises(RefusedError) as info:
            Runtime(process.park())
    assert info.value.code == "allocator-in-executable"


def _soon() -> Deadline:
    return Deadline(10)
