"""Bulk reading and writing, tried on this very process (no tracing needed)."""

from __future__ import annotations

import ctypes
import mmap
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.errors import FaultError, InstarError
from instar.process import memory as module
from instar.process.memory import Memory

PAGE = mmap.PAGESIZE


@pytest.fixture
def ours() -> Memory:
    return Memory(os.getpid())


class Area:
    """Three pages of which the last is not accessible."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
        )  # fmt: skip
        self.start: int = libc.mmap(None, 3 * PAGE, 3, 0x22, -1, 0)
        libc.munmap(ctypes.c_void_p(self.start + 2 * PAGE), PAGE)
        self.bytes = np.ctypeslib.as_array((ctypes.c_uint8 * (2 * PAGE)).from_address(self.start))
        self.bytes[:] = np.arange(2 * PAGE) * 7 % 251


@pytest.fixture(scope="module")
def area() -> Area:
    return Area()


def test_read_and_write(ours: Memory, area: Area) -> None:
    assert ours.read(area.start + 5, 300) == area.bytes[5:305].tobytes()
    assert ours.read(area.start, 0) == b""
    ours.write(area.start + 16, b"hello\0world\0")
    assert area.bytes[16:21].tobytes() == b"hello"
    assert ours.read_cstring(area.start + 16) == b"hello"
    ours.write(area.start + 16, np.array([1, 2], np.uint64).view(np.uint8))
    assert ours.u64(area.start + 24) == 2
    assert ours.u32(area.start + 16) == 1
    buffer = np.zeros(100, np.uint8)
    ours.read_into(area.start + 50, buffer)
    assert (buffer == area.bytes[50:150]).all()


def test_fault_names_the_first_bad_address(ours: Memory, area: Area) -> None:
    end = area.start + 2 * PAGE
    for action in (lambda: ours.read(end - 10, 20), lambda: ours.write(end - 10, bytes(20))):
        with pytest.raises(FaultError) as caught:
            action()
        assert caught.value.address in (end - 10, end)
    with pytest.raises(FaultError):
        ours.read(0, 8)
    with pytest.raises(FaultError):
        ours.read(1 << 63, 8)
    with pytest.raises(FaultError) as spans:
        ours.read_spans([area.start, end - 8, end, area.start], [8, 8, 8, 8])
    assert spans.value.address == end


def test_strings_stop_at_the_end_of_memory(ours: Memory, area: Area) -> None:
    area.bytes[-4:] = (97, 98, 99, 0)
    assert ours.read_cstring(area.start + 2 * PAGE - 4) == b"abc"
    area.bytes[-1] = 100
    with pytest.raises(FaultError):
        ours.read_cstring(area.start + 2 * PAGE - 4)
    area.bytes[100:200] = 65
    with pytest.raises(InstarError) as caught:
        ours.read_cstring(area.start + 100, 50)
    assert caught.value.code == "string-too-long"


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, PAGE), st.integers(0, 300)), max_size=40), st.integers(1, 7))
def test_spans_are_pieces_in_order(spans: list[tuple[int, int]], vectors: int) -> None:
    own, area = Memory(os.getpid()), Area()
    starts = [area.start + offset for offset, _ in spans]
    sizes = [size for _, size in spans]
    expected = b"".join(area.bytes[offset : offset + size].tobytes() for offset, size in spans)
    before = module._VECTORS
    module._VECTORS = vectors
    try:
        assert own.read_spans(starts, sizes).tobytes() == expected
    finally:
        module._VECTORS = before


def test_written_spans(ours: Memory, area: Area) -> None:
    starts = np.array([area.start + 8 * index for index in range(0, 512, 2)], np.uint64)
    sizes = np.full(256, 8, np.uint64)
    area.bytes[:] = 0
    ours.write_spans(starts, sizes, np.arange(256, dtype=np.uint64).view(np.uint8))
    words = area.bytes[:4096].view(np.uint64)
    assert (words[::2] == np.arange(256)).all() and not words[1::2].any()
    with pytest.raises(ValueError, match="spans"):
        ours.write_spans(starts, sizes, np.zeros(5, np.uint8))


def test_more_than_one_call_can_take(ours: Memory, monkeypatch: pytest.MonkeyPatch, area: Area) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1000)
    area.bytes[:] = np.arange(2 * PAGE) % 251
    assert ours.read(area.start + 3, 5000) == area.bytes[3:5003].tobytes()
    got = ours.read_spans([area.start, area.start + 10], [2500, 700])
    assert got.tobytes() == area.bytes[:2500].tobytes() + area.bytes[10:710].tobytes()


def test_forced_writes_reach_read_only_pages(ours: Memory) -> None:
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    page: int = libc.mmap(None, PAGE, 1, 0x22, -1, 0)
    with pytest.raises(FaultError):
        ours.write(page, b"x")
    ours.write_forced(page + 1, b"forced")
    assert ours.read(page, 7) == b"\0forced"
    with pytest.raises(FaultError):
        ours.write_forced(8, b"x")
