"""Statics that only one of two versions has in pieces."""

from __future__ import annotations

from instar.metadata.model import VariableFlag, VariableKind
from instar.metadata.pieces import align_pieces
from instar.metadata.version import Version
from instar.testing.versions import VersionBuilder

STATIC = VariableKind.FILE_STATIC


def names(version: Version) -> dict[str, tuple[int, str]]:
    return {
        version.text(v["name"]): (int(v["address"]), version.type_name(int(v["type"])))
        for v in version.variables
    }


def whole() -> VersionBuilder:
    b = VersionBuilder("whole")
    b.unit("main.c")
    peer = b.struct("peer", 16)
    b.member(peer, "port", b.c_short, 8)
    inner = b.union("", 8)
    b.member(inner, "number", b.c_long)
    state = b.struct("state", 64)
    b.member(state, "added", b.c_int)
    b.member(state, "peers", b.typedef("peers_t", b.array(peer, 2)), 8)
    b.member(state, "", inner, 40)
    b.member(state, "flag", b.c_int, bit_offset=384, bits=3)
    b.variable("state", state, 0x4000, kind=STATIC)
    b.variable("other", b.c_int, 0x5000, kind=STATIC)
    return b


def split(*pieces: tuple[str, int]) -> Version:
    b = VersionBuilder("split")
    b.unit("main.c")
    for name, address in pieces:
        b.variable(name, b.c_long, address, kind=STATIC, flags=VariableFlag.PIECE)
    return b.build()


def test_the_whole_one_is_split_like_the_other() -> None:
    pieces = split(("state.peers[1].port", 0x9000), ("state.number", 0x9010), ("state.gone", 0x9020))
    for old, new in (align_pieces(whole().build(), pieces), align_pieces(pieces, whole().build())[::-1]):
        assert new is pieces
        assert names(old) == {
            "other": (0x5000, "int"),
            "state.peers[1].port": (0x4000 + 8 + 16 + 8, "short int"),
            "state.number": (0x4028, "long int"),
        }
        assert [int(v["flags"]) for v in old.variables] == [0, 1, 1]
        assert old.find_variable("state.number", "main.c") is not None


def test_nothing_to_do_gives_the_same_objects() -> None:
    old, new = whole().build(), whole().build()
    assert align_pieces(old, new) == (old, new)
    assert align_pieces(old, new)[0] is old
    pieces = split(("state.peers[0].port", 0x9000))
    assert align_pieces(pieces, pieces)[0] is pieces


def test_pieces_that_the_other_type_does_not_have_leave_it_whole() -> None:
    old = whole().build()
    for name in (
        "state.nothing",
        "state.peers[2].port",
        "state.flag",
        "state{8..24}",
        "another.added",
        "state.added.x",
    ):
        assert align_pieces(old, split((name, 0x9000)))[0] is old, name


def moved(*units: str, scope: str = "") -> Version:
    b = VersionBuilder("moved")
    for number, unit in enumerate(units):
        b.unit(unit)
        b.variable(
            "state.added", b.c_int, 0x9000, kind=STATIC, unit=number, scope=scope, flags=VariableFlag.PIECE
        )
    return b.build()


def test_a_file_that_was_renamed() -> None:
    old = whole().build()
    assert "state.added" in names(align_pieces(old, moved("renamed.c"))[0])
    assert align_pieces(old, moved("one.c", "two.c"))[0] is old
    assert align_pieces(old, moved("main.c", scope="f"))[0] is old
