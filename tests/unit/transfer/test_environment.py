"""Whether the vector of the environment still says what the program was started with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from instar.errors import FaultError
from instar.state.arguments import ArgumentArea
from instar.state.image import Image
from instar.transfer.environment import is_vector_kept

STACK, TEXTS, ELSEWHERE = 0x7FFC_0000_1000, 0x7FFC_0000_2000, 0x5555_0000_0000
ARGC = 2


def image(*words: bytes, moved: tuple[bytes, ...] = (), slots: tuple[int, ...] | None = None) -> Image:
    """A process that was started with these words; ``moved`` lie elsewhere, and the vector leads there."""
    memory: dict[int, int] = {}
    area, places, at = {}, [], TEXTS
    for word in words:
        area[word.split(b"=")[0]] = at, len(word) + 1
        places.append(at)
        memory |= dict(enumerate(word + b"\0", at))
        at += len(word) + 1
    for index, word in enumerate(moved):
        places[index] = ELSEWHERE + 0x100 * index
        memory |= dict(enumerate(word.ljust(0x100, b"\0"), places[index]))
    vector = [*(places if slots is None else slots), 0]
    first = STACK + 8 * (ARGC + 1)
    memory |= dict(enumerate(b"".join(word.to_bytes(8, "little") for word in vector), first))

    def read(address: int, size: int) -> bytes:
        if address not in memory:
            raise FaultError(address, size, 1)
        return bytes(memory.get(at, 0) for at in range(address, address + size))

    arguments = ArgumentArea(((0, 0),) * ARGC, area, (STACK, ARGC + 1))
    subject = SimpleNamespace(memory=SimpleNamespace(read=read))
    return cast(Image, cast(Any, SimpleNamespace(arguments=arguments, subject=subject)))


START = (b"HOME=/root", b"PATH=/bin")
OTHER_VALUE = (b"HOME=/home",)


@pytest.mark.parametrize(
    ("past", "future", "expected"),
    [
        (image(*START), image(*START), True),
        (image(*START), image(*START, b"LD_PRELOAD=x"), True),
        (image(*START, moved=START), image(*START), True),  # a program that sets its title has copied them
        (image(*START, moved=OTHER_VALUE), image(*START), False),  # setenv
        (image(*START, slots=(TEXTS,)), image(*START), False),  # unsetenv
        (image(*START, slots=(16,)), image(*START), False),
        (image(*START), image(*reversed(START)), False),
        (image(*START), image(START[0]), False),
    ],
)
def test_vector(past: Image, future: Image, expected: bool) -> None:
    assert is_vector_kept(past, future) is expected
