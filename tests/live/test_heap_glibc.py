"""The heap seen from outside is exactly what the program itself recorded."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instar.errors import RefusedError
from instar.heap.glibc import GlibcHeap, enumerate_heap
from instar.heap.image import BLOCK, BlockKind, HeapImage
from instar.heap.threads import find_thread_pointers
from instar.process.maps import read_maps
from instar.process.memory import Memory

PROGRAMS = Path(__file__).parent / "heap_programs"

Run = Callable[..., tuple[int, np.ndarray]]


@pytest.fixture(scope="session")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program; INSTAR_TEST_CHURN names another build, to test with another glibc."""
    if prebuilt := os.environ.get("INSTAR_TEST_CHURN"):
        return Path(prebuilt)
    target = tmp_path_factory.mktemp("heap") / "churn"
    subprocess.run(["gcc", "-O1", "-g", "-pthread", "-o", str(target), str(PROGRAMS / "churn.c")], check=True)
    return target


@pytest.fixture
def run(churn: Path) -> Iterator[Run]:
    """Starts the program; gives its PID and its own record, sorted by address."""
    children: list[subprocess.Popen[bytes]] = []

    def start(env: dict[str, str] | None = None, **options: int) -> tuple[int, np.ndarray]:
        child = subprocess.Popen(
            [str(churn), *(f"{key}={value}" for key, value in options.items())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        children.append(child)
        assert child.stdout is not None
        count = int.from_bytes(_exactly(child, 8), "little")
        rows = np.frombuffer(_exactly(child, 16 * count), "<u8").reshape(-1, 2)
        return child.pid, rows[np.argsort(rows[:, 0])]

    yield start
    for child in children:
        child.kill()
        child.communicate()


def _exactly(child: subprocess.Popen[bytes], size: int) -> bytes:
    assert child.stdout is not None
    data = child.stdout.read(size)
    assert len(data) == size, f"the program ended: {child.wait()}"
    return data


def enumerate_of(pid: int, **options: Any) -> HeapImage:
    return enumerate_heap(Memory(pid), read_maps(pid), **options)


def assert_exact(pid: int, record: np.ndarray, image: HeapImage, finished: int = 0) -> None:
    """``finished``: threads that ended, of which libc may keep a stack and a block each."""
    blocks = image.blocks
    assert blocks.dtype == BLOCK
    assert (np.diff(blocks["address"].astype(np.int64)) > 0).all()
    seen = dict(zip(blocks["address"].tolist(), blocks["size"].tolist(), strict=True))
    for vector in dtv_blocks(pid)[1:]:
        seen.pop(vector, None)
    own = dict(record.tolist())
    missing = {hex(a): s for a, s in own.items() if seen.get(a) != s}
    surplus = {hex(a): s for a, s in seen.items() if a not in own}
    assert not missing, (len(missing), list(missing.items())[:5])
    assert len(surplus) <= finished and set(surplus.values()) <= {280, 296}, list(surplus.items())[:10]


def dtv_blocks(pid: int) -> list[int]:
    """The blocks that libc itself holds for each thread: its vector of thread-local blocks."""
    memory = Memory(pid)
    return [memory.u64(pointer + 8) - 16 for pointer in find_thread_pointers(memory, read_maps(pid))]


@pytest.mark.parametrize("seed", range(6))
def test_churn(run: Run, seed: int) -> None:
    pid, record = run(seed=seed, ops=40_000 * (seed + 1))
    image = enumerate_of(pid)
    assert_exact(pid, record, image)
    assert len(image.library) == 1
    assert image.cached > 0


def test_before_the_first_allocation(run: Run) -> None:
    pid, record = run(ops=0)
    image = enumerate_of(pid)
    assert len(record) == 0
    assert len(image.blocks) == 0
    assert image.regions == ()


def test_all_freed(run: Run) -> None:
    pid, record = run(ops=50_000, drop=60_000)
    assert len(record) == 0
    assert len(enumerate_of(pid).blocks) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"mmap_threshold": 4096},
        {"mmap_threshold": 1 << 22},
        {"mxfast": 160},
        {"mxfast": 0},
        {"trim": 1},
        {"trim": 1, "drop": 50_000},
        {"foreign": 60},
        {"foreign": 60, "imitate": 1},
        {"foreign": 200, "mmap_threshold": 65536},
    ],
    ids=str,
)
def test_parameters(run: Run, options: dict[str, int]) -> None:
    pid, record = run(ops=60_000, seed=7, **options)
    assert_exact(pid, record, enumerate_of(pid))


@pytest.mark.parametrize(
    "tunables",
    [
        "glibc.malloc.tcache_count=0",
        "glibc.malloc.tcache_count=100",
        "glibc.malloc.tcache_max=256",
        "glibc.malloc.top_pad=0:glibc.malloc.trim_threshold=4096",
        "glibc.malloc.mxfast=128:glibc.malloc.tcache_count=0",
        "glibc.malloc.perturb=85",
        "glibc.malloc.hugetlb=1",
    ],
)
def test_tunables(run: Run, tunables: str) -> None:
    pid, record = run(env={"GLIBC_TUNABLES": tunables}, ops=60_000, seed=11)
    assert_exact(pid, record, enumerate_of(pid))


@pytest.mark.parametrize("seed", range(3))
def test_break_in_the_way(run: Run, seed: int) -> None:
    """malloc maps further segments for its main arena."""
    pid, record = run(ops=60_000, seed=seed, block_break=1, twice=1, foreign=20)
    image = enumerate_of(pid)
    assert_exact(pid, record, image)
    assert sum(region.kind == BlockKind.MAIN for region in image.regions) > 1


def test_break_in_the_way_from_the_start(run: Run) -> None:
    pid, record = run(ops=0, block_break=1, twice=1, foreign=20)
    assert_exact(pid, record, enumerate_of(pid))


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 3},
        {"threads": 8, "finished": 3},
        {"threads": 6, "arena_max": 2},
        {"threads": 6, "finished": 6, "trim": 1},
        {"threads": 2, "big_arena": 1500},
        {"threads": 3, "big_arena": 1500, "finished": 1, "trim": 1},
    ],
    ids=str,
)
def test_threads(run: Run, options: dict[str, int]) -> None:
    pid, record = run(ops=30_000, seed=3, foreign=30, **options)
    image = enumerate_of(pid)
    finished = options.get("finished", 0)
    assert_exact(pid, record, image, finished)
    assert len(image.library) == 1 + options["threads"] - finished
    if options.get("arena_max") is None:
        assert any(region.kind == BlockKind.ARENA for region in image.regions)


def test_arena_of_several_heaps(run: Run) -> None:
    pid, _ = run(ops=1000, threads=1, big_arena=1500)
    arena = [region for region in enumerate_of(pid).regions if region.kind == BlockKind.ARENA]
    assert len(arena) >= 2


def test_thread_pointers_may_be_given(run: Run) -> None:
    pid, record = run(ops=20_000)
    memory, maps = Memory(pid), read_maps(pid)
    pointers = find_thread_pointers(memory, maps)
    assert len(pointers) == 1
    assert_exact(pid, record, enumerate_heap(memory, maps, thread_pointers=pointers))


def test_reader_and_exclusion(run: Run) -> None:
    """The caller's reader delivers every region; what it excludes is not searched for mapped blocks."""
    pid, record = run(ops=30_000, mmap_threshold=65536)
    memory, maps = Memory(pid), read_maps(pid)
    read: list[tuple[int, int]] = []

    def reader(address: int, size: int) -> np.ndarray:
        read.append((address, size))
        return np.frombuffer(memory.read(address, size), np.uint8)

    heap = GlibcHeap(memory, maps)
    image = heap.enumerate(maps, reader=reader)
    assert_exact(pid, record, image)
    assert {(region.start, region.size) for region in image.regions} == set(read)
    mapped = [region for region in image.regions if region.kind == BlockKind.MAPPED]
    with pytest.raises(RefusedError) as caught:
        heap.enumerate(maps, exclude=[(mapped[0].start, mapped[0].end)])
    assert caught.value.code == "heap-corrupt"


def test_regions_hold_the_bytes(run: Run) -> None:
    pid, _ = run(ops=30_000)
    image = enumerate_of(pid)
    memory = Memory(pid)
    for row in (0, len(image.blocks) // 2, len(image.blocks) - 1):
        address, size = int(image.blocks["address"][row]), int(image.blocks["size"][row])
        assert image.bytes_of(row).tobytes() == memory.read(address, size)
        assert image.block_at(address + size - 1) == row


def test_foreign_break_is_refused(run: Run) -> None:
    pid, _ = run(ops=60_000, foreign_break=8192, twice=1)
    with pytest.raises(RefusedError) as caught:
        enumerate_of(pid)
    assert caught.value.code == "heap-foreign-break"


def test_overflow_is_refused(run: Run) -> None:
    pid, _ = run(ops=20_000, corrupt=1, env={"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"})
    with pytest.raises(RefusedError) as caught:
        enumerate_of(pid)
    assert caught.value.code == "overrun-block"
    assert "0x" in caught.value.cause


def test_another_allocator_is_refused(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "mine.c"
    source.write_text(
        "extern void *__libc_malloc(unsigned long);\n"
        "void *malloc(unsigned long size) { return __libc_malloc(size); }\n"
    )
    library = tmp_path / "libmyalloc.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    pid, _ = run(ops=1000, env={"LD_PRELOAD": str(library)})
    with pytest.raises(RefusedError) as caught:
        enumerate_of(pid)
    assert caught.value.code == "unknown-allocator"
    assert "libmyalloc.so.1" in caught.value.cause
