"""The tool's memory grows with small blocks by less than the mark of `make bench` allows."""

import json
import sys
from pathlib import Path

from bench.measure import program, store
from bench.memory import peak_of

INSTAR = Path(sys.executable).parent / "instar"
FEW, MANY = 20_000, 160_000
MOST = 340  # bytes for a block of 64: the mark is 3 x 80 and 150 MB for a million


def peak(count: int) -> int:
    """All processes of the tool, for blocks that all change their type."""
    with store("blocks", f"{count} 100") as one:
        options = ["--json", "--timeout", "120", "--max-pause", "60000"]
        most, report = peak_of([str(INSTAR), "update", str(one.pid), str(program("blocks", 2)), *options])
        assert json.loads(report)["outcome"] == "updated", report
        assert one.ask("ping") == "pong 2"
    return most


def test_a_block_takes_no_more_than_the_mark() -> None:
    few, many = peak(FEW), peak(MANY)
    assert few > 20 << 20, "nothing was measured"
    assert (many - few) / (MANY - FEW) <= MOST
