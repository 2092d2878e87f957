"""Distinct values by sorting.

``np.unique`` hashes numbers since NumPy 2.3, which takes ten times as long where most are distinct, as
addresses and rows are: six seconds a million.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def distinct(values: Array) -> Array:
    """The values of a column, ascending, each once."""
    ordered = np.sort(values)
    if len(ordered) < 2:
        return ordered
    first = np.empty(len(ordered), bool)
    first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    found: Array = ordered[first]
    return found
