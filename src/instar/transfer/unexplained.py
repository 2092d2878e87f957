"""Words of unknown meaning that hit something which moves: which can be no pointer, which surely are one.

Memory that was used before holds the pointers of its earlier use. A word is left as it is where it can be no
pointer: it has padding in it, or it lies in a network address, or in character data behind the end of the
text, across that end, or at the very end of a block, where the bytes may lie behind what was asked for. In
character data a word at the start of a member is taken for a pointer; one at a place where no pointer can
lead is not. Everything else keeps the kernel's verdict: starts of objects are assumed pointers, all others
are refused by name. Pure.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from instar.metadata.version import Version
from instar.state.columns import Fate, ObjectFlag, ObjectKind, Status, WordSource
from instar.state.kernel import State
from instar.state.paths import member_path, text_member
from instar.transfer.elements import ElementWords, Verdict
from instar.transfer.engine import Scan
from instar.transfer.mappings import MappingPool
from instar.transfer.system_data import SystemData

Array = np.ndarray[Any, np.dtype[Any]]

_SLACK, _LARGE, _PAGE = 31, 128 * 1024 - 64, 4096
_TAGS = 15  # blocks lie on 16-byte boundaries: more low bits can be no tag
_RUN = 8
_UTF8 = codecs.getincrementaldecoder("utf-8")
_CLAIMS = ObjectFlag.BYTES | ObjectFlag.VOID | ObjectFlag.INTERIOR


@dataclass(frozen=True, eq=False)
class Settled:
    """A scan without the words that were settled; ``stale`` has the (object, offset) of those left alone."""

    scan: Scan
    stale: tuple[tuple[int, int], ...]

    def replaced(self, words: Array, places: Collection[tuple[int, int]]) -> Settled:
        """With other rows for some places, whose words were judged by what they are."""
        if not places:
            return self
        scan = self.scan
        kept, findings = scan.words[~_is_among(scan.words, places)], scan.findings
        found = replace(
            scan, words=np.concatenate([kept, words]), findings=findings[~_is_among(findings, places)]
        )
        return Settled(found, tuple(place for place in self.stale if place not in places))


class Settler:
    """Judges words of unknown meaning by where they lie and where they lead.

    Args:
        state: The past's, fates decided.
        version: The past's.
        pool: Mappings, for places inside what is converted.
        strict: Nothing is taken for stale, and nothing but the start of an object for a pointer.
        elements: Knows pointers to elements of static arrays in opaque data; None: there are none.
    """

    def __init__(
        self,
        state: State,
        version: Version,
        pool: MappingPool,
        *,
        strict: bool,
        elements: ElementWords | None = None,
    ) -> None:
        self._state, self._version, self._pool, self._strict = state, version, pool, strict
        self._elements = elements
        self._padding: dict[tuple[int, int], bool] = {}
        self._system = SystemData(version)

    def settle(self, scan: Scan) -> Settled:
        """Judge all words of unknown meaning of a scan."""
        rows = np.concatenate([scan.words, scan.findings])
        rows = rows[rows["source"] == WordSource.UNEXPLAINED]
        verdicts: dict[tuple[int, int], Verdict] = {}
        self._pointing = self._outside_tails(rows)
        for word in rows:
            key = int(word["object"]), int(word["offset"])
            if key not in verdicts:
                verdicts[key] = self._judge(word)
        settled = {key: verdict for key, verdict in verdicts.items() if verdict is not Verdict.KEEP}
        if not settled:
            return Settled(scan, ())
        return self._without(scan, settled)

    def _without(self, scan: Scan, settled: Mapping[tuple[int, int], Verdict]) -> Settled:
        words = scan.words[~_is_among(scan.words, settled)]
        hits = _is_among(scan.findings, settled)
        members = []
        for word in scan.findings[hits]:
            if settled[int(word["object"]), int(word["offset"])] is Verdict.MEMBER:
                moved = word.copy()
                moved["new_value"], moved["status"] = self._member(int(word["value"])), Status.MOVED
                members.append(moved)
        added = np.array(members, dtype=scan.words.dtype)
        findings = np.concatenate([scan.findings[~hits], added])
        stale = tuple(key for key, verdict in settled.items() if verdict is Verdict.STALE)
        return Settled(replace(scan, words=np.concatenate([words, added]), findings=findings), stale)

    def _judge(self, word: Any) -> Verdict:
        row, offset, status = int(word["object"]), int(word["offset"]), Status(int(word["status"]))
        entry = self._state.objects[row]
        if not self._strict and self._system.covers(int(entry["type"]), int(entry["count"]), offset):
            return Verdict.STALE
        if entry["kind"] in (ObjectKind.LOCAL, ObjectKind.FRAME):
            return Verdict.KEEP
        if self._is_padding(entry, offset):
            return Verdict.PADDING
        start = None if self._strict else self._text_start(entry, offset)
        if start is not None and (
            self._is_at_text(entry, start, offset) or self._is_tail(row, offset, status)
        ):
            whole = status is Status.MOVED and self._is_in_array(int(entry["address"]) + offset)
            return Verdict.KEEP if whole else Verdict.STALE
        if status is not Status.INSIDE or self._strict:
            return Verdict.KEEP
        if entry["type"] < 0 and start is None and self._elements is not None:
            found = self._elements.judge(int(entry["address"]), offset, int(word["value"]))
            if found is not None:
                return found
        is_data = start is not None or bool(entry["type"] < 0)
        if start is not None and self._is_slack(entry, offset):
            return self._judge_slack(int(word["value"]))
        return self._judge_inside(int(word["value"]), start is not None, is_data)

    def _judge_slack(self, value: int) -> Verdict:
        """A word that leads inside something that moves, in what malloc rounds a block up with.

        Where no pointer can lead, or to what is no block now, it is not even taken for one with a tag or to
        the front of a block, but for what was there before: pieces of old pointers lead anywhere.
        """
        found = self._target(value)
        if found is None:
            return Verdict.STALE if self._state.find(value) is None else Verdict.KEEP
        row, kind, inner = found
        if (inner & ~_TAGS) == 0 or self._is_place(row, kind, inner):
            return self._judge_inside(value, True, True)
        return Verdict.STALE

    def _judge_inside(self, value: int, is_text: bool, is_data: bool) -> Verdict:
        """A word that leads inside something that moves."""
        found = self._target(value)
        if found is None:
            return Verdict.KEEP
        row, kind, inner = found
        if not self._is_place(row, kind, inner):
            if (inner & ~_TAGS) == 0 or self._is_place(row, kind, inner & ~7):
                return Verdict.KEEP  # an address with a tag?
            return Verdict.STALE if is_data else Verdict.KEEP
        may_be_tagged = inner < 8
        if not is_text or may_be_tagged or self._place(value) is None:
            return Verdict.KEEP
        return Verdict.MEMBER

    # Where a word lies --------------------------------------------------------------------------------------

    def _is_padding(self, entry: Any, offset: int) -> bool:
        """Whether some byte of the word belongs to no member: a value never lies across padding."""
        kind = int(entry["type"])
        size = int(self._state.table.types[kind]["size"]) if kind >= 0 else 0
        if not size or offset >= size * int(entry["count"]):
            return False
        key = kind, offset % size
        if key not in self._padding:
            layout, low = self._pool.pairing.old, offset % size
            high = min(low + 8, size)
            bits = [layout.is_padding(kind, 8 * byte, 8 * byte + 8) for byte in range(low, high)]
            self._padding[key] = any(bits)
        return self._padding[key]

    def _text_start(self, entry: Any, offset: int) -> int | None:
        """Where the character data that holds a word begins in its object; None in other data.

        Only where nothing but character pointers claim the block, or inside a character array of a struct.
        """
        if entry["type"] < 0:
            only = entry["kind"] == ObjectKind.HEAP and int(entry["flags"]) & _CLAIMS == ObjectFlag.BYTES
            return 0 if only else None
        end = self._end(entry)
        if entry["kind"] == ObjectKind.HEAP and offset >= end and not entry["flags"] & ObjectFlag.TRUNCATED:
            return end  # behind the object
        return text_member(self._version, int(entry["type"]), int(entry["count"]), offset)

    def _is_slack(self, entry: Any, offset: int) -> bool:
        """Behind a typed object that fills its block but for less than malloc adds to it."""
        end = self._end(entry) if entry["type"] >= 0 else offset + 1
        return end <= offset and int(entry["size"]) - end <= _SLACK

    def _end(self, entry: Any) -> int:
        """How many bytes of a typed object its type describes."""
        return int(self._state.table.types[int(entry["type"])]["size"]) * int(entry["count"])

    def _is_at_text(self, entry: Any, start: int, offset: int) -> bool:
        """Whether a text of at least one character ends before or in the word, or runs right up to it.

        An array of pointers kept under ``char *`` does not begin with a text, even where the bytes of its
        first pointer are letters.
        """
        data = self._state.bytes_at(int(entry["address"]) + start, offset + 8 - start)
        if data is None or self._begins_with_pointer(int(entry["address"]) + start):
            return False
        text = data.split(b"\0", 1)[0]
        if len(text) > offset - start:  # ends in the word, if these are still characters
            return _is_text(text) or (offset - start >= _RUN and _is_text(text[: offset - start]))
        return _is_text(text) or len(text) == offset - start >= _RUN

    def _begins_with_pointer(self, address: int) -> bool:
        """Whether the first word is the exact start of an object, and not the rest of an older one behind a
        short text: it has six bytes that are not zero, or the next word is the start of one as well."""
        first = self._state.word(address)
        if first is None or not self._is_start(first):
            return False
        if 0 not in first.to_bytes(8, "little")[:6]:
            return True
        second = self._state.word(address + 8)
        return second is not None and self._is_start(second)

    def _is_in_array(self, address: int) -> bool:
        """Whether a word that is the start of an object is one of several pointers behind each other.

        A number in front of them may look like a text of one letter. If they are old ones, nobody reads them
        and it does no harm that they follow; but a new text may run on into the first.
        """
        before, behind = self._state.word(address - 8), self._state.word(address + 8)
        if before is None:
            return False
        runs_on = bool(before >> 56)
        return self._is_start(before) or (not runs_on and behind is not None and self._is_start(behind))

    def _is_start(self, value: int) -> bool:
        row = self._state.find(value)
        return row is not None and int(self._state.objects["address"][row]) == value

    def _is_tail(self, row: int, offset: int, status: Status) -> bool:
        """At the end of a block of characters, perhaps behind what was asked for, and no word before points
        anywhere. A whole pointer at the start of such a block is more likely than one to three characters."""
        entry = self._state.objects[row]
        if entry["kind"] != ObjectKind.HEAP or entry["type"] >= 0 or (offset < 8 and status is Status.MOVED):
            return False
        return offset + 8 > int(entry["size"]) - _slack(int(entry["size"])) and row not in self._pointing

    def _outside_tails(self, rows: Array) -> set[int]:
        """Objects with a word before their last bytes that leads to something which moves."""
        sizes = self._state.objects["size"][rows["object"]].astype(np.int64)
        slack = np.where(sizes >= _LARGE, _PAGE + _SLACK, _SLACK)
        before = rows["offset"].astype(np.int64) + 8 <= sizes - slack
        before &= np.isin(rows["status"], (Status.MOVED, Status.INSIDE))
        return set(rows["object"][before].tolist())

    # Where a word leads -------------------------------------------------------------------------------------

    def _target(self, value: int) -> tuple[int, int, int] | None:
        """(object row, type, offset in the element) of what a word leads into."""
        row = self._state.find(value)
        if row is None:
            return None
        entry = self._state.objects[row]
        kind = int(entry["type"])
        if entry["fate"] != Fate.MOVE or kind < 0 or entry["kind"] in (ObjectKind.LOCAL, ObjectKind.FRAME):
            return None
        size = int(self._state.table.types[kind]["size"]) or 1
        inner = value - int(entry["address"])
        return row, kind, inner % size if inner < size * int(entry["count"]) else inner

    def _is_place(self, row: int, kind: int, inner: int) -> bool:
        """Whether a pointer can lead there: a member, an element, the end."""
        size = int(self._state.table.types[kind]["size"])
        if inner >= size:
            return inner == size * int(self._state.objects[row]["count"])
        return "+" not in member_path(self._version, kind, inner)

    def _member(self, value: int) -> int | None:
        element = self._elements.place(value) if self._elements is not None else None
        return self._place(value) if element is None else element

    def _place(self, value: int) -> int | None:
        """Where the inside of an object that moves is in the new version."""
        row = self._state.find(value)
        if row is None:
            return None
        entry = self._state.objects[row]
        inner = value - int(entry["address"])
        if entry["mapping"] < 0:
            return int(entry["new_address"]) + inner
        mapping = self._pool.compiled[int(entry["mapping"])]
        element, inner = divmod(inner, mapping.old_size)
        offsets = self._pool.pairing.offset_map(mapping.old_type, mapping.new_type)
        if element > int(entry["count"]) or inner >= len(offsets) or offsets[inner] < 0:
            return None
        return int(entry["new_address"]) + element * mapping.new_size + int(offsets[inner])


def _slack(size: int) -> int:
    """How much larger than what was asked for a block's usable size may be."""
    return _PAGE + _SLACK if size >= _LARGE else _SLACK


def _is_text(data: bytes) -> bool:
    """Printable characters, at least one; the last may be cut off."""
    try:
        text = _UTF8().decode(data)  # raises only for bytes that can begin or go on with no character
    except UnicodeDecodeError:
        return False
    return bool(text) and text.replace("\t", " ").replace("\n", " ").replace("\r", " ").isprintable()


def _is_among(words: Array, keys: Iterable[tuple[int, int]]) -> Array:
    """Mask of the words of unknown meaning that lie at one of some (object, offset)."""
    wanted = np.array([object_row << 32 | offset for object_row, offset in keys], dtype=np.int64)
    places = words["object"].astype(np.int64) << 32 | words["offset"].astype(np.int64)
    mask: Array = np.isin(places, wanted) & (words["source"] == WordSource.UNEXPLAINED)
    return mask
