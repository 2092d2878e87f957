"""A running process may have something else under a number between one look and the next."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from instar.errors import InstarError
from instar.process import descriptors

OTHER = "pos:\t0\nflags:\t0100002\nmnt_id:\t14\n"
HERE = os.getpid()


@contextlib.contextmanager
def _opened(number: int) -> Iterator[int]:
    try:
        yield number
    finally:
        os.close(number)


@pytest.mark.parametrize("swaps", [0, 1, 7])
def test_what_does_not_fit_together_is_looked_at_again(swaps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left, read = [swaps], descriptors._read_text

    def swapped(name: str, directory: int) -> str:
        left[0] -= 1
        return OTHER if left[0] >= 0 else read(name, directory)

    with _opened(os.eventfd(41)) as number:
        monkeypatch.setattr(descriptors, "_read_text", swapped)
        found = descriptors.read_descriptor(HERE, number)
        assert found is not None and (found.kind, found.event_count) == ("eventfd", 41)
        left[0] = 8
        with pytest.raises(InstarError) as raised:  # nothing is left out without a word
            descriptors.read_descriptor(HERE, number)
        assert raised.value.code == "no-such-descriptor"


def _epoll() -> int:
    with select.epoll() as made:
        return os.dup(made.fileno())


KINDS: dict[str, Callable[[], int]] = {
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(),
    "unix": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach(),
    "eventfd": lambda: os.eventfd(3),
    "epoll": _epoll,
    "null": lambda: os.open("/dev/null", os.O_RDWR),
    "file": lambda: os.open(__file__, os.O_RDONLY),
}


def _listed(number: int) -> descriptors.Descriptor | None:
    return next((one for one in descriptors.list_descriptors(HERE) if one.number == number), None)


@pytest.mark.parametrize("place", ["readlink", "stat", "_read_text", "_source"])
@pytest.mark.parametrize("before", KINDS)
@pytest.mark.parametrize("after", KINDS)
def test_a_swap_between_two_looks_gives_one_of_the_two_files(
    before: str, after: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = os if hasattr(os, place) else descriptors
    look = getattr(module, place)
    with _opened(KINDS[before]()) as number:
        first = _listed(number)

        def swapping(*arguments: Any, **options: Any) -> Any:
            found = look(*arguments, **options)
            mine = arguments[0] == str(number) or (place == "_source" and number in arguments[1])
            if mine and not swapped:
                swapped.append(KINDS[after]())
                os.dup2(swapped[0], number)
            return found

        swapped: list[int] = []
        monkeypatch.setattr(module, place, swapping)
        try:
            found = _listed(number)
            monkeypatch.undo()
            assert found in (first, _listed(number))
        finally:
            for other in swapped:
                os.close(other)
