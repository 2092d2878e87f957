"""Names a place in the state the way a programmer would write it: ``server.clients[3]->name``."""

from __future__ import annotations

from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.state.columns import ObjectKind
from instar.state.kernel import State

_DEPTH = 24


def member_path(version: Version, row: int, offset: int) -> str:
    """``.peer.port`` or ``[3].name`` of the leaf of a type that covers a byte offset; empty for the start of
    a scalar, ``+N`` where no member is."""
    text = ""
    for _ in range(_DEPTH):
        row = version.strip(row) if row >= 0 else -1
        kind = TypeKind(int(version.types[row]["kind"])) if row >= 0 else TypeKind.VOID
        if kind is TypeKind.ARRAY:
            element = int(version.types[row]["target"])
            size = int(version.size_of(element)) or 1
            text += f"[{offset // size}]"
            row, offset = element, offset % size
        elif kind in (TypeKind.STRUCT, TypeKind.UNION):
            found = _member_at(version, row, offset)
            if found is None:
                break
            name, row, start = found
            text += f".{name}" if name else ""
            offset -= start
        else:
            break
    return text if offset == 0 else f"{text}+{offset}"


def _member_at(version: Version, row: int, offset: int) -> tuple[str, int, int] | None:
    for member in version.members_of(row):
        start = int(member["bit_offset"]) // 8
        size = max((int(member["bit_size"]) + 7) // 8, 0) or int(version.size_of(int(member["type"])))
        if start <= offset < start + size and member["type"] >= 0:
            return version.text(int(member["name"])), int(member["type"]), start
    return None


def variable_name(version: Version, row: int) -> str:
    """``name`` of a variable; file and function statics as ``unit.c:name`` and ``function:name``."""
    variable = version.variables[row]
    name = version.text(int(variable["name"]))
    if variable["scope"]:
        return f"{version.text(int(variable['scope']))}:{name}"
    return name


def object_path(state: State, version: Version, row: int, local_names: dict[int, str]) -> str:
    """How the program reaches an object: variable, then members and pointers on the way.

    Args:
        state: The typed state.
        version: Its version.
        row: The object.
        local_names: Object row -> name of a local variable or frame.
    """
    trail: list[str] = []
    current = row
    for _ in range(_DEPTH):
        entry = state.objects[current]
        if entry["kind"] in (ObjectKind.STATIC, ObjectKind.TLS) and state.origin(current) >= 0:
            trail.append(variable_name(version, state.origin(current)))
            break
        if current in local_names:
            trail.append(local_names[current])
            break
        parent = int(entry["parent"])
        if parent < 0 or parent == current:
            trail.append(f"{ObjectKind(int(entry['kind'])).name.lower()} {int(entry['address']):#x}")
            break
        trail.append(f"{slot_path(state, version, parent, int(entry['parent_offset']))}->")
        current = parent
    else:
        trail.append("...")
    return "".join(reversed(trail)).removesuffix("->") if len(trail) > 1 else trail[0]


def slot_path(state: State, version: Version, row: int, offset: int) -> str:
    """The members of one object down to an offset, elements included."""
    entry = state.objects[row]
    kind = int(entry["type"])
    if kind < 0:
        return f"+{offset}" if offset else ""
    size = int(version.size_of(kind)) or 1
    if entry["count"] > 1:
        return f"[{offset // size}]{member_path(version, kind, offset % size)}"
    if offset >= size and not state.table.types[kind]["tail_size"]:
        return f"+{offset}"
    return member_path(version, kind, offset)


def word_path(state: State, version: Version, row: int, offset: int, local_names: dict[int, str]) -> str:
    """A word of an object, from the variable on: ``table.buckets[7]->next``."""
    base = object_path(state, version, row, local_names)
    tail = slot_path(state, version, row, offset)
    is_root = state.origin(row) >= 0 or row in local_names
    if is_root:
        return base + tail
    return f"{base}->{tail.removeprefix('.')}" if tail.startswith(".") else f"(*{base}){tail}"


def text_member(version: Version, row: int, count: int, offset: int) -> int | None:
    """Offset at which the character array begins that covers a byte of an object; None when none does.

    Args:
        version: Whose types.
        row: Type of one element.
        count: Elements of the object.
        offset: Byte in the object.
    """
    size = int(version.size_of(row)) or 1
    base = offset // size * size if count > 1 or version.types[row]["kind"] != TypeKind.ARRAY else 0
    inner = offset - base
    if row >= 0 and version.types[row]["size"] == 1:
        return 0  # an array of characters, kept as elements
    for _ in range(_DEPTH):
        row = version.strip(row) if row >= 0 else -1
        kind = TypeKind(int(version.types[row]["kind"])) if row >= 0 else TypeKind.VOID
        if kind is TypeKind.ARRAY:
            element = version.strip(int(version.types[row]["target"]))
            if element >= 0 and version.types[element]["size"] == 1:
                return base
            width = int(version.size_of(element)) or 1
            base, inner, row = base + inner // width * width, inner % width, element
        elif kind in (TypeKind.STRUCT, TypeKind.UNION):
            found = _member_at(version, row, inner)
            if found is None:
                return None
            _, row, start = found
            base, inner = base + start, inner - start
        else:
            return None
    return None
