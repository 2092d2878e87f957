"""Distinct values, against Python's own."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instar.metadata.distinct import distinct


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5)))
def test_each_once_ascending(values: list[int]) -> None:
    assert distinct(np.array(values, np.uint64)).tolist() == sorted(set(values))
