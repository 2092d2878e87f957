"""How single values change: integers, floats, enums, bit-fields. Pure rules on two stripped types."""

from __future__ import annotations

from instar.metadata.model import TypeKind
from instar.pairing.fragments import EnumTable, Fragment, RawMove
from instar.pairing.layout import INTEGRAL, Entry, Layout
from instar.pairing.moves import MoveFlag, MoveOp
from instar.pairing.problems import Change, Problem

_WIDTHS = (1, 2, 4, 8)
_X87_FAMILY = ("float", "double", "long double", "_Float32", "_Float64", "_Float32x")


def _signs(old: Layout, new: Layout, old_type: int, new_type: int) -> int:
    flags = MoveFlag.OLD_SIGNED if old.is_signed(old_type) else MoveFlag(0)
    if new.is_signed(new_type):
        flags |= MoveFlag.NEW_SIGNED
    if new.is_boolean(new_type):
        flags |= MoveFlag.NEW_BOOLEAN
    return int(flags)


def _retyped(old: Layout, new: Layout, old_type: int, new_type: int) -> Change:
    return Change("retyped", "", f"{old.label(old_type)} -> {new.label(new_type)}")


def refuse(code: str, old: Layout, new: Layout, old_type: int, new_type: int, why: str) -> Fragment:
    """A fragment without moves whose one problem names both types."""
    cause = f"{old.label(old_type)} -> {new.label(new_type)}: {why}"
    remedy = "write a handler for this type, or keep the member's old type under its name"
    return Fragment(problems=(Problem(code, "", cause, remedy),), settled=False)


def compile_integral(old: Layout, new: Layout, old_type: int, new_type: int) -> Fragment:
    """INTEGER or ENUM -> INTEGER or ENUM, both stripped."""
    old_bits, new_bits = 8 * old.size(old_type), 8 * new.size(new_type)
    both_enums = old.kind(old_type) == new.kind(new_type) == TypeKind.ENUM
    if both_enums and enums_unrelated(old, new, old_type, new_type):
        return refuse("needs-handler", old, new, old_type, new_type, "no enumerator has the same name")
    table = enum_table(old, new, old_type, new_type) if both_enums else None
    changes = enum_changes(old, new, old_type, new_type) if both_enums else ()
    flags = _signs(old, new, old_type, new_type)
    if table is not None:
        return Fragment(
            (RawMove(MoveOp.ENUM, 0, 0, old_bits, new_bits, flags=flags, table=table),), changes=changes
        )
    if old_bits == new_bits and _keeps_bits(old, new, old_type, new_type):
        if _is_sign_change(old, new, old_type, new_type):
            changes += (_retyped(old, new, old_type, new_type),)
        return Fragment((RawMove(MoveOp.COPY, 0, 0, old_bits, new_bits),), changes=changes)
    if old.size(old_type) not in _WIDTHS or new.size(new_type) not in _WIDTHS:
        return refuse(
            "needs-handler", old, new, old_type, new_type, "integers wider than 8 bytes are only copied"
        )
    changes += (_retyped(old, new, old_type, new_type),)
    return Fragment((RawMove(MoveOp.INTEGER, 0, 0, old_bits, new_bits, flags=flags),), changes=changes)


def _is_sign_change(old: Layout, new: Layout, old_type: int, new_type: int) -> bool:
    return (
        old.is_signed(old_type) != new.is_signed(new_type)
        or old.is_boolean(old_type) != new.is_boolean(new_type)
        or old.kind(old_type) != new.kind(new_type)
    )


def _keeps_bits(old: Layout, new: Layout, old_type: int, new_type: int) -> bool:
    """Same width: may the bytes stay? A plain ``char`` holds text or bytes, so its sign does not matter."""
    if old.is_boolean(old_type) != new.is_boolean(new_type):
        return False
    if old.is_signed(old_type) == new.is_signed(new_type):
        return True
    return old.is_plain_char(old_type) or new.is_plain_char(new_type)


def enums_unrelated(old: Layout, new: Layout, old_type: int, new_type: int) -> bool:
    """Whether two enums have enumerators but none in common."""
    old_names = {name for name, _ in old.enumerators(old_type)}
    new_names = {name for name, _ in new.enumerators(new_type)}
    return bool(old_names and new_names) and not old_names & new_names


def enum_table(old: Layout, new: Layout, old_type: int, new_type: int) -> EnumTable | None:
    """Old value -> new value by enumerator name, sorted; None when every value keeps its meaning as it is.

    A value that two old names share and that the new version tells apart has no row, as has one whose names
    are all gone: such a value is refused when it is met. Zero stays zero where neither version names it.
    """
    old_values = old.enumerators(old_type)
    new_values = dict(new.enumerators(new_type))
    if all(new_values.get(name) == value for name, value in old_values) or not new_values:
        return None
    targets: dict[int, set[int]] = {}
    for name, value in old_values:
        if name in new_values:
            targets.setdefault(value, set()).add(new_values[name])
    table = {value: found.pop() for value, found in targets.items() if len(found) == 1}
    if 0 not in {value for _, value in old_values} and 0 not in new_values.values():
        table[0] = 0
    return tuple(sorted(table.items()))


def enum_changes(old: Layout, new: Layout, old_type: int, new_type: int) -> tuple[Change, ...]:
    """What happened to the enumerators; additions that move no other value are left out."""
    new_values = dict(new.enumerators(new_type))
    changes: list[Change] = []
    for name, value in old.enumerators(old_type):
        if name not in new_values:
            changes.append(Change("removed", f".{name}", f"enumerator {name} = {value}"))
        elif new_values[name] != value:
            changes.append(Change("renumbered", f".{name}", f"{value} -> {new_values[name]}"))
    return tuple(changes)


def compile_floats(old: Layout, new: Layout, old_type: int, new_type: int) -> Fragment:
    """FLOAT -> FLOAT, both stripped."""
    old_bits, new_bits = 8 * old.size(old_type), 8 * new.size(new_type)
    names = (old.name(old_type), new.name(new_type))
    if old_bits == new_bits and (names[0] == names[1] or (old_bits <= 64 and set(names) <= set(_X87_FAMILY))):
        return Fragment((RawMove(MoveOp.COPY, 0, 0, old_bits, new_bits),))
    if not set(names) <= set(_X87_FAMILY):
        return refuse("needs-handler", old, new, old_type, new_type, "no rule between these float formats")
    changes = (_retyped(old, new, old_type, new_type),)
    return Fragment((RawMove(MoveOp.FLOAT, 0, 0, old_bits, new_bits),), changes=changes)


def compile_int_float(old: Layout, new: Layout, old_type: int, new_type: int) -> Fragment:
    """INTEGER -> FLOAT or FLOAT -> INTEGER, both stripped; enums and booleans are no numbers."""
    from_float = old.kind(old_type) == TypeKind.FLOAT
    integer = (new, new_type) if from_float else (old, old_type)
    floating = old.name(old_type) if from_float else new.name(new_type)
    layout, row = integer
    if layout.kind(row) == TypeKind.ENUM or layout.is_boolean(row) or layout.size(row) not in _WIDTHS:
        return refuse("needs-handler", old, new, old_type, new_type, "not a number on both sides")
    if floating not in _X87_FAMILY:
        return refuse("needs-handler", old, new, old_type, new_type, "no rule for this float format")
    flags = _signs(old, new, old_type, new_type) if not from_float else int(MoveFlag.FROM_FLOAT)
    if from_float and new.is_signed(new_type):
        flags |= MoveFlag.NEW_SIGNED
    move = RawMove(MoveOp.INT_FLOAT, 0, 0, 8 * old.size(old_type), 8 * new.size(new_type), flags=flags)
    return Fragment((move,), changes=(_retyped(old, new, old_type, new_type),))


def compile_bits(old: Layout, new: Layout, old_entry: Entry, new_entry: Entry) -> Fragment:
    """A member of which at least one side is a bit-field; positions are those of the two members."""
    old_type, new_type = old.strip(old_entry.type), new.strip(new_entry.type)
    if old.kind(old_type) not in INTEGRAL or new.kind(new_type) not in INTEGRAL:
        return refuse(
            "needs-handler", old, new, old_type, new_type, "a bit-field becomes no other kind of value"
        )
    old_bits = old_entry.bit_size or 8 * old.size(old_type)
    new_bits = new_entry.bit_size or 8 * new.size(new_type)
    if max(old_bits, new_bits) > 64:
        return refuse(
            "needs-handler", old, new, old_type, new_type, "integers wider than 8 bytes are only copied"
        )
    both_enums = old.kind(old_type) == new.kind(new_type) == TypeKind.ENUM
    if both_enums and enums_unrelated(old, new, old_type, new_type):
        return refuse("needs-handler", old, new, old_type, new_type, "no enumerator has the same name")
    table = enum_table(old, new, old_type, new_type) if both_enums else None
    changes = enum_changes(old, new, old_type, new_type) if both_enums else ()
    flags = _signs(old, new, old_type, new_type)
    if new_bits == 1 and not new.is_signed(new_type):
        flags &= ~int(MoveFlag.NEW_BOOLEAN)
    signs = MoveFlag.OLD_SIGNED | MoveFlag.NEW_SIGNED
    same = table is None and old_bits == new_bits and flags & signs in (0, signs)
    same = same and not flags & MoveFlag.NEW_BOOLEAN
    if old_bits != new_bits or _is_sign_change(old, new, old_type, new_type):
        detail = f"{_spell(old, old_entry)} -> {_spell(new, new_entry)}"
        changes += (Change("retyped", "", detail),)
    move = RawMove(
        MoveOp.BITS,
        old_entry.bit_offset,
        new_entry.bit_offset,
        old_bits,
        new_bits,
        flags=flags,
        table=table,
        same=same,
    )
    return Fragment((move,), changes=changes)


def _spell(layout: Layout, entry: Entry) -> str:
    label = layout.label(entry.type)
    return f"{label} : {entry.bit_size}" if entry.bit_size else label
