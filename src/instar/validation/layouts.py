"""Whether objects may keep their layout: by names and offsets in both versions, not by the pairing of types.

Comparison follows the pairing: if it took a type for unchanged, or for one that the new version lacks, its
objects would come back as they were. Only what is the same here may be left as it is. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property

from instar.metadata.model import TypeFlag, TypeKind
from instar.metadata.version import Version
from instar.pairing.mapping import TypePairing
from instar.validation.walk import Member, kind_of, named_members

TAGGED = (TypeKind.STRUCT, TypeKind.UNION, TypeKind.ENUM)
_RECORDS = (TypeKind.STRUCT, TypeKind.UNION)
_VALUES = (TypeKind.INTEGER, TypeKind.ENUM, TypeKind.FLOAT)


class Layouts:
    """Compares layouts of the two versions.

    Args:
        pairing: Of the types; asked only for what handlers settle and for annotations.
    """

    def __init__(self, pairing: TypePairing) -> None:
        self._pairing, self._settled = pairing, pairing.settled
        self._old, self._new = pairing.old.version, pairing.new.version
        self._memo: dict[tuple[int, int], bool] = {}

    def stays(self, old_type: int, new_type: int) -> bool:
        """Whether every member that both have is at one place, of one size, and means the same there."""
        key = self._old.strip(old_type), self._new.strip(new_type)
        if key not in self._memo:
            self._memo[key] = True  # of itself
            self._memo[key] = self._compare(*key) or self._pairing.new.annotation(new_type) == "noxfer"
        return self._memo[key]

    def may_stay(self, old_type: int) -> bool:
        """Whether it stays as one of the new version's types of its name, or has no name there."""
        namesakes = self.namesakes(old_type)
        return not namesakes or any(self.stays(old_type, row) for row in namesakes)

    def namesakes(self, old_type: int) -> list[int]:
        """Rows of the new version's types of the same name, or the one that the user gave it."""
        row = self._old.strip(old_type)
        kind = kind_of(self._old, row)
        return [] if kind not in TAGGED else self._named.get((kind, self._name(row)), [])

    def element(self, old_type: int) -> int:
        """What an old type is an array of (of arrays), without typedefs."""
        row = self._old.strip(old_type)
        while row >= 0 and kind_of(self._old, row) is TypeKind.ARRAY:
            row = self._old.strip(int(self._old.types[row]["target"]))
        return row

    # Names --------------------------------------------------------------------------------------------------

    def _name(self, row: int) -> str:
        """As the new version calls an old type; "" for one without a name."""
        name = _tag_or_typedef(self._old, row, self._old_typedefs)
        keyword = TypeKind(int(self._old.types[row]["kind"])).name.lower()
        renames = self._settled.type_renames
        plain = name.removeprefix("typedef ")
        other = renames.get(f"{keyword} {name}") or renames.get(plain)
        if other is None:
            return name
        return other.removeprefix(f"{keyword} ") if other.startswith(f"{keyword} ") else f"typedef {other}"

    @cached_property
    def _old_typedefs(self) -> dict[int, str]:
        return _typedefs(self._old)

    @cached_property
    def _named(self) -> dict[tuple[TypeKind | None, str], list[int]]:
        found: dict[tuple[TypeKind | None, str], list[int]] = defaultdict(list)
        typedefs = _typedefs(self._new)
        for row, entry in enumerate(self._new.types):
            if entry["kind"] in TAGGED and not entry["flags"] & TypeFlag.INCOMPLETE:
                name = _tag_or_typedef(self._new, row, typedefs)
                if name:
                    found[TypeKind(int(entry["kind"])), name].append(row)
        return found

    # Layouts ------------------------------------------------------------------------------------------------

    def _compare(self, old_row: int, new_row: int) -> bool:
        if old_row < 0 or new_row < 0:
            return True
        old, new = self._old, self._new
        kinds = kind_of(old, old_row), kind_of(new, new_row)
        if self._settled.between(old_row, new_row).whole:
            return True
        if kinds[0] is TypeKind.ARRAY and kinds[1] is TypeKind.ARRAY:
            counts = int(old.types[old_row]["elements"]), int(new.types[new_row]["elements"])
            targets = int(old.types[old_row]["target"]), int(new.types[new_row]["target"])
            return max(counts[0], 0) == max(counts[1], 0) and self.stays(*targets)
        if old.size_of(old_row) != new.size_of(new_row):
            return False
        if kinds[0] in _RECORDS and kinds[0] is kinds[1]:
            return self._compare_members(old_row, new_row)
        if kinds[0] in _VALUES and kinds[1] in _VALUES:
            return self._compare_values(old_row, new_row)
        return True

    def _compare_members(self, old_row: int, new_row: int) -> bool:
        owned = self._settled.between(old_row, new_row)
        renames = self._settled.members.get(old_row, {})
        others = {member.name: member for member in named_members(self._new, new_row)}
        for member in named_members(self._old, old_row):
            name = renames.get(member.name, member.name)
            ours = name in others and name not in owned.new and member.name not in owned.old
            if ours and not self._same_member(member, others[name]):
                return False
        return True

    def _same_member(self, old: Member, new: Member) -> bool:
        return (old.offset, old.bits) == (new.offset, new.bits) and self.stays(old.type, new.type)

    def _compare_values(self, old_row: int, new_row: int) -> bool:
        kinds = kind_of(self._old, old_row), kind_of(self._new, new_row)
        if kinds == (TypeKind.ENUM, TypeKind.ENUM):
            values = dict(self._pairing.old.enumerators(old_row))
            new = self._pairing.new.enumerators(new_row)
            return all(values.get(name, value) == value for name, value in new)
        return (kinds[0] is TypeKind.FLOAT) == (kinds[1] is TypeKind.FLOAT)


def _tag_or_typedef(version: Version, row: int, typedefs: dict[int, str]) -> str:
    name = version.text(int(version.types[row]["name"]))
    return name or (f"typedef {typedefs[row]}" if row in typedefs else "")


def _typedefs(version: Version) -> dict[int, str]:
    """Tagged row -> the first typedef that names it directly."""
    names: dict[int, str] = {}
    for entry in version.types[version.types["kind"] == TypeKind.TYPEDEF]:
        target = int(entry["target"])
        if target >= 0 and version.types[target]["kind"] in TAGGED:
            names.setdefault(target, version.text(int(entry["name"])))
    return names
