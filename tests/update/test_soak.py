"""A few updates of `make soak`: there and back under load, every client right, nothing left over."""

from __future__ import annotations

from pathlib import Path

from faults.soak import Measure, Soak, growth

UPDATES = 8


def test_nothing_grows(tmp_path: Path) -> None:
    soak = Soak(tmp_path)
    try:
        soak.run(UPDATES, quiet=True)
    finally:
        soak.close()
    steady = soak.measures[2:]
    assert len(soak.measures) == UPDATES
    assert len({one.descriptors for one in steady}) == 1
    assert len({one.files for one in steady}) == 1, "a file an update"
    assert max(one.mappings for one in steady) <= min(one.mappings for one in steady) + 4


def test_growth_is_seen() -> None:
    measures = [Measure(10 + n, 100, 30, 100, 5, 10, 1.0, 2.0) for n in range(40)]
    assert growth(measures)["descriptors"][2] > 2
    assert growth(measures)["mappings"][2] == 1
