"""The columns of a mapping are laid out as the kernels read them."""

from instar.pairing.moves import BITFIELD, ENUM_VALUE, MOVE


def test_rows_are_laid_out_as_c_reads_them() -> None:
    assert MOVE.itemsize == 48
    assert MOVE.fields is not None
    offsets = {name: MOVE.fields[name][1] for name in MOVE.names or ()}
    assert offsets["count"] == 24
    assert offsets["extra"] == 36
    assert offsets["op"] == 44
    assert BITFIELD.itemsize == 8
    assert ENUM_VALUE.itemsize == 16
