"""What repairs wrote lies over what is read, across pages and in every way of reading."""

from __future__ import annotations

import numpy as np
import pytest

from instar.process.memory import Bytes, Memory
from instar.state.repaired import Overlay, RepairedMemory

BASE = 0x10_0000


class _Fake(Memory):
    """Zeros from BASE on."""

    def __init__(self) -> None:
        super().__init__(0)
        self.data = np.zeros(3 * 4096, np.uint8)

    def read(self, address: int, size: int) -> bytes:
        return self.data[address - BASE : address - BASE + size].tobytes()

    def read_into(self, address: int, buffer: Bytes) -> None:
        buffer[:] = self.data[address - BASE : address - BASE + len(buffer)]

    def read_spans(self, starts: object, sizes: object) -> Bytes:
        pairs = zip(np.asarray(starts).tolist(), np.asarray(sizes).tolist(), strict=True)
        return np.concatenate([self.data[a - BASE : a - BASE + n] for a, n in pairs])


@pytest.fixture
def overlay() -> Overlay:
    made = Overlay()
    made.put(BASE + 4094, bytes(4), b"abcd")
    made.put(BASE + 8, bytes(1), b"x")
    return made


def test_reads_see_the_repairs_and_the_process_has_none(overlay: Overlay) -> None:
    fake = _Fake()
    memory = RepairedMemory(fake, overlay)
    assert memory.read(BASE + 4093, 6) == b"\0abcd\0"
    assert memory.read(BASE + 4096, 1) == b"c"
    buffer = np.empty(3 * 4096, np.uint8)
    memory.read_into(BASE, buffer)
    assert bytes(buffer[buffer != 0]) == b"xabcd"
    assert memory.read_spans([BASE + 8, BASE + 4095], [2, 2]).tobytes() == b"x\0bc"
    assert memory.u32(BASE + 4094) == int.from_bytes(b"abcd", "little")
    assert not fake.data.any()


def test_what_is_the_same_is_no_repair(overlay: Overlay) -> None:
    overlay.put(BASE, b"same", b"same")
    assert [(one.address, one.after) for one in overlay.repairs] == [(BASE + 4094, b"abcd"), (BASE + 8, b"x")]


def test_the_last_write_counts(overlay: Overlay) -> None:
    overlay.put(BASE + 4095, b"bc", b"BC")
    assert RepairedMemory(_Fake(), overlay).read(BASE + 4094, 4) == b"aBCd"


def test_nothing_is_written(overlay: Overlay) -> None:
    with pytest.raises(TypeError, match="only read"):
        RepairedMemory(_Fake(), overlay).write(BASE, b"x")
