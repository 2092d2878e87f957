"""Follows linked lists by the naming rule of docs/validation.md. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from instar.errors import RefusedError
from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.state.values import Value


def walk_list(head: Value, link: str = "") -> Iterator[Value]:
    """The objects of a list, from a pointer to its first one to null or back to the first.

    Args:
        head: A pointer to a struct.
        link: The member that leads to the next one; "": see ``find_link``.

    Raises:
        RefusedError: "no-link" when the member is not clear, "list-cycle" when it runs into itself elsewhere.
    """
    version = head.version
    if head.kind is not TypeKind.POINTER:
        raise RefusedError(
            "no-link", f"{head.path} is a {head.type_name}, no list", "give a pointer to its first"
        )
    kind = version.strip(int(version.types[head.stripped]["target"]))
    name = link or find_link(version, kind)
    first = address = head.pointer()
    seen: set[int] = set()
    current = head
    while address:
        if address in seen:
            if address == first:
                return  # a ring
            raise RefusedError(
                "list-cycle",
                f"the list {head.path} comes back to its object {len(seen)} at {address:#x} and never ends",
                "repair it with --tainted repair=FILE, or restart the program",
            )
        seen.add(address)
        item = current.dereference()
        yield Value(version, head.memory, item.type, address, f"{head.path}[{len(seen) - 1}]")
        current = item.member(name)
        address = current.pointer()


def find_link(version: Version, kind: int) -> str:
    """The member of a struct that leads to the next one of its kind.

    The one member that points at the same struct; of several the one called ``next``, else the one whose name
    ends with it.
    """
    members = version.members_of(kind) if kind >= 0 else ()
    names = [version.text(int(m["name"])) for m in members if _target(version, int(m["type"])) == kind]
    exact = [name for name in names if name == "next"] or [n for n in names if n.endswith("next")]
    chosen = names if len(names) == 1 else exact
    if len(chosen) != 1:
        label = version.type_name(kind) if kind >= 0 else "void"
        raise RefusedError(
            "no-link",
            f"which member of {label} leads to the next one is not clear: {', '.join(names) or 'none'}",
            'say it: list(head, "member")',
        )
    return chosen[0]


def _target(version: Version, kind: int) -> int:
    row = version.strip(kind) if kind >= 0 else -1
    if row < 0 or version.types[row]["kind"] != TypeKind.POINTER or version.types[row]["target"] < 0:
        return -1
    return version.strip(int(version.types[row]["target"]))
