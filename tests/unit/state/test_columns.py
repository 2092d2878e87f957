"""The columns of Python and C have the same layout."""

import ctypes

import pytest

from instar.native import load
from instar.pairing.moves import BITFIELD, ENUM_TABLE, MOVE
from instar.state import columns
from instar.validation.columns import COUNTERPART, DIFFERENCE, EXTRA, LEAD, MASK

ORDER = [
    columns.OBJECT, columns.REGION, columns.KTYPE, columns.SLOT, columns.FIXED, MOVE, BITFIELD, ENUM_TABLE,
    columns.KMAPPING, columns.INNER, columns.WORD, columns.FAULT,
    columns.CHANGE, COUNTERPART, MASK, DIFFERENCE, LEAD, EXTRA,
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(ORDER)))
def test_size_is_that_of_c(index: int) -> None:
    library = load("kernels")
    library.instar_layout_size.restype = ctypes.c_uint64
    assert library.instar_layout_size(index) == ORDER[index].itemsize


def test_there_is_no_further_struct() -> None:
    library = load("kernels")
    library.instar_layout_size.restype = ctypes.c_uint64
    assert library.instar_layout_size(len(ORDER)) == 0
