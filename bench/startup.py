"""How long `instar --help` takes, against an empty Python."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from bench.measure import INSTAR, Row


def run(*, quick: bool) -> Iterator[Row]:
    rounds = 3 if quick else 7
    empty = _best([sys.executable, "-c", "pass"], rounds)
    helped = _best([str(INSTAR), "--help"], rounds)
    yield Row("instar --help", helped, "ms", 200.0, "0.2 s", 1.0, f"python -c pass: {empty:.0f} ms")


def _best(command: Sequence[str], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - started)
    return min(times) * 1e3
