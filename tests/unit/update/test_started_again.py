"""A new version whose memory lies where the old one's must go is started again, and refused in the end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from instar.control.runtime import AddressTakenError
from instar.update.options import UpdateOptions
from instar.update.progress import SilentProgress
from instar.update.transaction import Transaction


class Unlucky(Transaction):
    """The first starts have something where the past's memory must go."""

    def __init__(self, taken: int) -> None:
        super().__init__(1, Path("new"), UpdateOptions(), SilentProgress())
        self.taken, self.starts, self.aborts = taken, 0, 0

    def _start(self) -> None:
        self.starts += 1
        self.driver = cast(Any, SimpleNamespace(abort=self._abort))

    def _abort(self) -> None:
        self.aborts += 1

    def _pre_copy(self) -> None:
        if self.starts <= self.taken:
            raise AddressTakenError(0x7F0000000000, 4096)


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_until_the_addresses_are_free(taken: int) -> None:
    update = Unlucky(taken)
    update._beside()
    assert (update.starts, update.aborts) == (taken + 1, taken)


def test_refused_in_the_end() -> None:
    update = Unlucky(1000)
    with pytest.raises(AddressTakenError) as caught:
        update._beside()
    assert caught.value.code == "address-taken" and "try again" in caught.value.remedy
    assert update.starts == update.aborts == 8
