"""Types as C spells them: ``struct conn *``, ``char [16]``, ``void (*)(int)``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instar.metadata.model import TypeFlag, TypeKind

if TYPE_CHECKING:
    from instar.metadata.version import Version

KEYWORDS = {TypeKind.STRUCT: "struct", TypeKind.UNION: "union", TypeKind.ENUM: "enum"}
DEPTH_LIMIT = 64  # nesting of declarators; no C program comes near it


def declare(version: Version, type_row: int, declarator: str = "", depth: int = 0) -> str:
    """The declaration of ``declarator`` with a type; with "" the abstract type name (as in a cast).

    Args:
        version: Where the type is from.
        type_row: Row of ``version.types``, -1 for void.
        declarator: A name, or what is built around it so far.
        depth: Of the recursion; a chain of unnamed types longer than DEPTH_LIMIT is cut with "...".
    """
    if depth > DEPTH_LIMIT:
        return "..."
    if type_row < 0:
        return _join("void", declarator)
    row = version.types[type_row]
    kind = TypeKind(int(row["kind"]))
    target = int(row["target"])
    if kind == TypeKind.POINTER:
        return declare(version, target, _wrap_pointer(version, target, declarator), depth + 1)
    if kind == TypeKind.ARRAY:
        count = int(row["elements"])
        suffix = f"[{count if count >= 0 else ''}]"
        return declare(version, target, declarator + suffix, depth + 1)
    if kind == TypeKind.FUNCTION:
        return declare(version, target, f"{declarator}({_parameters(version, type_row, depth)})", depth + 1)
    return _join(_base_name(version, type_row, kind), declarator)


def _join(base: str, declarator: str) -> str:
    return f"{base} {declarator}" if declarator else base


def _wrap_pointer(version: Version, target: int, declarator: str) -> str:
    """``*x``, in parentheses where an array or function follows."""
    if target >= 0 and version.types[target]["kind"] in (TypeKind.ARRAY, TypeKind.FUNCTION):
        return f"(*{declarator})"
    return f"*{declarator}"


def _parameters(version: Version, type_row: int, depth: int) -> str:
    names = [declare(version, int(one["type"]), "", depth + 1) for one in version.members_of(type_row)]
    if version.types[type_row]["flags"] & TypeFlag.VARARGS:
        names.append("...")
    return ", ".join(names) or "void"


def _base_name(version: Version, type_row: int, kind: TypeKind) -> str:
    name = version.text(int(version.types[type_row]["name"]))
    keyword = KEYWORDS.get(kind)
    if keyword:
        return f"{keyword} {name or '{...}'}"
    if name:
        return name
    return "void" if kind == TypeKind.VOID else f"<{kind.name.lower()} of {version.size_of(type_row)} bytes>"
