"""Read-only data that has no name: strings resolved by content as they turn up, and remembered.

A string that the new version does not have is carried as a copy behind the arena's blocks. Pure; link-time
addresses unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from instar.metadata.version import Version
from instar.pairing.literals import pair_nameless
from instar.pairing.strings import ContentPairing
from instar.state.columns import FixedFlag, FixedKind
from instar.transfer.targets import Target

_NOTHING = FixedFlag(0)


@dataclass(frozen=True)
class Resolved:
    """One constant that something points at: its start, its size, where it went (None: carried)."""

    start: int
    size: int
    new_start: int | None
    carried_at: int = 0


class StringResolver:
    """Remembers every constant that was resolved; grows during a scan.

    Args:
        old, new: The two versions.
        content: Pairs constants of the two files.
    """

    def __init__(self, old: Version, new: Version, content: ContentPairing) -> None:
        self._old, self._new = old, new
        self._content = content
        self._known: dict[int, Resolved] = {}
        self._carried = bytearray()
        self._unnamed: dict[int, int] | None = None

    def resolve(self, addresses: Iterable[int]) -> bool:
        """Look at constants of the old file; whether any was found that was not known before."""
        found = False
        for address in addresses:
            if address in self._known:
                continue
            resolved = self._find(address)
            if resolved is not None:
                self._known[resolved.start] = resolved
                found = True
        return found

    def _find(self, address: int) -> Resolved | None:
        text = self._content.old_constants.text_at(address)
        if text is None:
            return None
        target = self._content.resolve(address)
        if target is not None:
            return Resolved(address, len(text), target)
        at = len(self._carried)
        self._carried += text
        return Resolved(address, len(text), None, at)

    def unnamed(self, address: int) -> int | None:
        """The new address of an unnamed static (compound literal) that starts at an old address."""
        if self._unnamed is None:
            self._unnamed = pair_nameless(self._old, self._new)
            self._unnamed |= {pair.old_address: pair.new_address for pair in self._content.unnamed}
        return self._unnamed.get(address)

    def carry(self, data: bytes) -> int:
        """Have bytes carried with the strings; their offset from the first, a multiple of 8."""
        self._carried += bytes(-len(self._carried) % 8)
        at = len(self._carried)
        self._carried += data
        return at

    @property
    def next_offset(self) -> int:
        """Where ``carry`` will put what it is given next."""
        return -(-len(self._carried) // 8) * 8

    def carried(self) -> bytes:
        """The copies of strings that the new version lacks."""
        return bytes(self._carried)

    def targets(self, old_bias: int, new_bias: int, carried_base: int) -> list[Target]:
        """A target for every resolved constant, at run-time addresses, not overlapping.

        Args:
            old_bias, new_bias: Load biases.
            carried_base: Run-time address of the first carried copy.
        """
        result: list[Target] = []
        for start in sorted(self._known):
            one = self._known[start]
            new = carried_base + one.carried_at if one.new_start is None else one.new_start + new_bias
            begin = start + old_bias
            if result and result[-1].end > begin:
                last = result[-1]
                result[-1] = Target(last.start, begin, last.new_start, last.kind, last.flags)
            result.append(Target(begin, begin + one.size, new, FixedKind.STRING, _NOTHING))
        return result
