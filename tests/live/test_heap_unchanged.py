"""A heap that was walked before is walked again exactly when its blocks may have changed."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from instar.errors import RefusedError
from instar.heap.glibc import GlibcHeap, enumerate_heap
from instar.heap.image import BlockKind, HeapImage
from instar.process.maps import read_maps
from instar.process.memory import Memory
from instar.state.mirror import Mirror

PROGRAMS = Path(__file__).parent / "heap_programs"


class Steps:
    """The program, and its heap looked at again and again as an update does."""

    def __init__(self, program: Path, seed: int) -> None:
        self.child = subprocess.Popen(
            [str(program), str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._wait()
        self.memory, self.mirror = Memory(self.child.pid), Mirror()
        self.heap = GlibcHeap(self.memory, read_maps(self.child.pid))

    def _wait(self) -> None:
        assert self.child.stdout is not None
        assert self.child.stdout.read(1) == b"."

    def do(self, command: bytes) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(command)
        self._wait()

    def look(self) -> HeapImage:
        self.mirror.begin()

        def changes() -> tuple[np.ndarray, np.ndarray] | None:
            found = self.mirror.changes()
            return None if found is None else (found.rows, found.saved)

        maps = read_maps(self.child.pid)
        read = self.mirror.read
        image = self.heap.enumerate(maps, reader=lambda a, s: read(self.memory, a, s), changes=changes)
        self.mirror.end()
        return image

    def fresh(self) -> HeapImage:
        return enumerate_heap(self.memory, read_maps(self.child.pid))


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("heap") / "steps"
    subprocess.run(["gcc", "-O1", "-o", str(target), str(PROGRAMS / "steps.c")], check=True)
    return target


@pytest.fixture
def steps(program: Path, request: pytest.FixtureRequest) -> Iterator[Steps]:
    one = Steps(program, getattr(request, "param", 1))
    yield one
    one.child.kill()
    one.child.communicate()


def assert_same(image: HeapImage, fresh: HeapImage) -> None:
    for name in ("address", "size"):
        np.testing.assert_array_equal(image.blocks[name], fresh.blocks[name])
    assert [(r.start, r.size, r.limit) for r in image.regions] == [
        (r.start, r.size, r.limit) for r in fresh.regions
    ]
    for region, other in zip(image.regions, fresh.regions, strict=True):
        assert np.array_equal(region.data, other.data)
    assert (image.library.tolist(), image.cached) == (fresh.library.tolist(), fresh.cached)


@pytest.mark.parametrize("steps", range(2), indirect=True)
def test_it_always_is_what_a_walk_from_the_start_finds(steps: Steps) -> None:
    """Sizes of all kinds, thread cache, fast bins, mapped blocks, which are written to their last byte."""
    choose = random.Random(7)
    last, kept = steps.look(), 0
    for _ in range(40):
        steps.do(choose.choice([b"d", b"m", b"m", b"m"]))
        image = steps.look()
        kept += image is last
        assert_same(image, steps.fresh())
        last = image
    assert kept


def test_data_is_no_reason_to_walk_again(steps: Steps) -> None:
    first = steps.look()
    for command in (b"n", b"d", b"d", b"n"):
        steps.do(command)
        assert steps.look() is first
        assert_same(first, steps.fresh())


def test_every_word_that_decides_is_seen(steps: Steps) -> None:
    """Each kind of word, changed from outside: the image before is not taken for right."""
    image = steps.look()
    memory = steps.memory
    starts = image.blocks["address"]
    own = int(image.library[0])
    main = next(region for region in image.regions if region.kind == BlockKind.MAIN)
    inside = (starts >= main.start) & (starts < main.end)
    plain = int(starts[(starts > own) & inside][50])
    behind = plain + int(image.blocks["size"][np.searchsorted(starts, plain)])
    gaps = starts[:-1] + image.blocks["size"][:-1]
    free = int(gaps[(starts[1:] > gaps + 8) & inside[1:]][0])
    places = {"head": plain - 8, "head behind": behind, "free chunk": free, "cache": own + 0x100}
    for name, address in places.items():
        before = memory.read(address, 8)
        assert steps.look() is image, name
        memory.write(address, (int.from_bytes(before, "little") ^ 0x1000).to_bytes(8, "little"))
        for _ in range(2):  # also when the first look has taken note of the change
            with suppress(RefusedError):  # a damaged heap is refused, as a walk from the start refuses it
                assert steps.look() is not image, name
        memory.write(address, before)
        image = steps.look()
        assert_same(image, steps.fresh())


def test_what_a_broken_off_or_unfinished_look_has_read_is_not_lost(steps: Steps) -> None:
    """The copy is up to date then, and tells no change any more; the blocks are looked for anew."""
    image = steps.look()
    steps.do(b"a")
    steps.mirror.begin()
    for region in image.regions:
        steps.mirror.read(steps.memory, region.start, region.size)
    assert_same(steps.look(), steps.fresh())
    steps.do(b"a")
    steps.mirror.warm(steps.memory, [(region.start, region.end) for region in image.regions[:1]])
    assert_same(steps.look(), steps.fresh())
