"""The memory that the tool takes: all of its processes together, what they share counted once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_INTERVAL_S = 0.01
_PYTHON = Path(sys.executable).resolve().name


def peak_of(command: Sequence[str]) -> tuple[int, str]:
    """Run a command; the most that it and its Python children had at once, and what it wrote.

    The kernel tells for every process its share of each page (PSS), so that the sum counts a page once. The
    new version, a child as well, is not Python's and is not counted.

    Returns:
        Bytes, and standard output.
    """
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as child:
        most = 0
        while child.poll() is None:
            most = max(most, sum(_share(pid) for pid in _tree(child.pid)))
            time.sleep(_INTERVAL_S)
        assert child.stdout is not None
        return most, child.stdout.read()


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        except (OSError, ValueError):
            continue  # it has ended
    return found


def _share(pid: int) -> int:
    """Bytes; 0 for what is gone, or no Python process."""
    try:
        if Path(f"/proc/{pid}/exe").resolve().name != _PYTHON:
            return 0
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
