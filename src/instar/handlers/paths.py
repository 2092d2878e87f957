"""Names the object that a handler worked on, as the program would write it."""

from __future__ import annotations

from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.state.kernel import State
from instar.state.paths import object_path

_DEPTH = 24


def handled_path(
    state: State, version: Version, place: tuple[int, int], wanted: int, local_names: dict[int, str]
) -> str:
    """``pool.spare[1]``: the object of type ``wanted`` at a place (object row, byte offset)."""
    row, offset = place
    entry = state.objects[row]
    base = object_path(state, version, row, local_names).replace("->.", "->")
    kind, size = int(entry["type"]), int(version.size_of(int(entry["type"]))) or 1
    text = ""
    if entry["count"] > 1:
        text, offset = f"[{offset // size}]", offset % size
    return base + text + _inner(version, kind, offset, wanted)


def _inner(version: Version, row: int, offset: int, wanted: int) -> str:
    """Members and elements down to a type that starts at an offset."""
    text = ""
    for _ in range(_DEPTH):
        row = version.strip(row) if row >= 0 else -1
        if row < 0 or (row == wanted and not offset):
            break
        kind = TypeKind(int(version.types["kind"][row]))
        if kind is TypeKind.ARRAY:
            row = int(version.types["target"][row])
            size = int(version.size_of(row)) or 1
            text, offset = f"{text}[{offset // size}]", offset % size
        elif kind in (TypeKind.STRUCT, TypeKind.UNION):
            members = [m for m in version.members_of(row) if m["type"] >= 0 and not m["bit_size"]]
            around = [
                m for m in members if 0 <= offset - int(m["bit_offset"]) // 8 < _size(version, m["type"])
            ]
            if not around:
                break
            name = version.text(int(around[0]["name"]))
            text = f"{text}.{name}" if name else text
            row, offset = int(around[0]["type"]), offset - int(around[0]["bit_offset"]) // 8
        else:
            break
    return text


def _size(version: Version, row: int) -> int:
    """Bytes; those of a flexible array have no end."""
    stripped = version.strip(int(row))
    flexible = version.types["kind"][stripped] == TypeKind.ARRAY and version.types["elements"][stripped] <= 0
    return 1 << 62 if flexible else int(version.size_of(int(row)))
