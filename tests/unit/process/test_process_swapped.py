"""A running process may have something else under a number between one look and the next."""

from __future__ import annotations

import os

import pytest

from instar.process import descriptors

OTHER = "pos:\t0\nflags:\t0100002\nmnt_id:\t14\n"


@pytest.mark.parametrize("swaps", [0, 1, 7])
def test_what_does_not_fit_together_is_looked_at_again(swaps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left, read = [swaps], descriptors._read_text

    def swapped(name: str, directory: int) -> str:
        left[0] -= 1
        return OTHER if left[0] >= 0 else read(name, directory)

    number = os.eventfd(41)
    try:
        monkeypatch.setattr(descriptors, "_read_text", swapped)
        found = descriptors.read_descriptor(os.getpid(), number)
        assert found is not None and (found.kind, found.event_count) == ("eventfd", 41)
        left[0] = 8
        with pytest.raises(KeyError):  # nothing is left out without a word
            descriptors.read_descriptor(os.getpid(), number)
    finally:
        os.close(number)
