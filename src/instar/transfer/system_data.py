"""Types of the system that hold no addresses of memory, whatever was there before. Pure.

A program that keeps the address of a peer fills a `struct sockaddr_storage` on its stack with the 16 bytes of
an internet address and copies all 128: the rest is what the stack held before, often the addresses of locals
and functions. POSIX says what each of these types consists of, and none has room for a pointer.
"""

from __future__ import annotations

from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.transfer.byte_ranges import Range, TypeRanges, of_elements, of_members

_TYPES = {
    "sockaddr": 16,
    "sockaddr_storage": 128,
    "sockaddr_in": 16,
    "sockaddr_in6": 28,
    "sockaddr_un": 110,
    "sockaddr_nl": 12,
    "sockaddr_ll": 20,
}
"""Struct -> size on x86-64. A type of the program's own that has the same name has another size, or shows its
pointers: words in pointer members are no business of this module."""
_SIGNALS = 128  # sigset_t: sigemptyset and the kernel fill the first of its 16 words
_SIGNALS_NAME = "__sigset_t"
_LARGEST = 1 << 12


class SystemData:
    """Where in a version's types such data lies."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._ranges = TypeRanges(self._find)

    def covers(self, row: int, count: int, offset: int) -> bool:
        """Whether a word of an object (type, number of elements) lies in such data with all of its bytes."""
        size = self._version.size_of(row) if row >= 0 else 0
        if not size or offset >= size * count:
            return False
        inner = offset % size if count > 1 else offset
        return any(low <= inner and inner + 8 <= high for low, high in self._ranges.of(row))

    def _find(self, row: int) -> list[Range]:
        version = self._version
        if self._is_signal_set(row):
            return [(0, _SIGNALS)]
        row = version.strip(row)
        kind = TypeKind(int(version.types["kind"][row])) if row >= 0 else TypeKind.VOID
        if kind is TypeKind.STRUCT:
            if _TYPES.get(version.text(int(version.types["name"][row]))) == version.size_of(row):
                return [(0, version.size_of(row))]
            return of_members(version, row, self._ranges.of)
        if kind is TypeKind.UNION:
            return self._of_union(row)
        return of_elements(version, row, self._ranges.of, _LARGEST) if kind is TypeKind.ARRAY else []

    def _is_signal_set(self, row: int) -> bool:
        """The struct itself has no name: a typedef on the way tells."""
        version = self._version
        while row >= 0 and version.types["kind"][row] == TypeKind.TYPEDEF:
            if version.text(int(version.types["name"][row])) == _SIGNALS_NAME:
                return version.size_of(row) == _SIGNALS
            row = int(version.types["target"][row])
        return False

    def _of_union(self, row: int) -> list[Range]:
        """Bytes that are such data in every member that reaches so far."""
        if self._version.size_of(row) > _LARGEST:
            return []
        covered, other = set[int](), set[int]()
        for member in self._version.members_of(row):
            kind = int(member["type"])
            ranges = self._ranges.of(kind) if kind >= 0 and not member["bit_size"] else ()
            mine = {byte for low, high in ranges for byte in range(low, high)}
            covered |= mine
            other |= set(range(self._version.size_of(kind) if kind >= 0 else 0)) - mine
        return [(byte, byte + 1) for byte in covered - other]
