"""The past's ``FILE`` objects and their counterparts in the future.

A stream is libc's own: its bytes are never copied. Each one of the past gets a stream of the future's libc:
the one that the future's start-up opened under the same descriptor or a new one, with the same mode, position
and buffering, and the bytes that were read ahead or not written yet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from instar.control.runtime import Runtime
from instar.control.stdio import (
    APPENDING,
    IN_BACKUP,
    NO_READS,
    NO_WRITES,
    PUTTING,
    STANDARD,
    Stream,
    list_streams,
    plain_vtable,
    resolve_libc,
)
from instar.errors import InternalError, RefusedError
from instar.process.maps import Mapping as MemoryMapping
from instar.process.memory import Memory

STREAM = np.dtype(
    [
        ("file", "<u8"), ("data", "<u8"), ("data_size", "<u8"), ("position", "<u8"), ("pushed", "<u8"),
        ("pushed_size", "<u8"), ("buffer_size", "<u8"), ("offset", "<i8"), ("flags", "<u4"),
        ("number", "<i4"), ("orientation", "<i4"), ("state", "<u4"), ("column", "<u4"), ("result", "<i4"),
    ]
)  # fmt: skip
_MODE = APPENDING | NO_READS | NO_WRITES
_IDLE, _READING, _WRITING = range(3)
_LARGEST_BUFFER = 1 << 30


# ------------------------------------------------------------------------------------ plan


@dataclass(frozen=True)
class StreamPlan:
    """Which streams the past has and which of the future's is each one's counterpart.

    Attributes:
        streams: Of the past.
        pairs: Address in the past -> in the future; those without get a new one.
        problems: Address -> why it cannot be carried.
    """

    streams: tuple[Stream, ...]
    pairs: Mapping[int, int]
    problems: Mapping[int, str] = field(default_factory=dict)

    @property
    def carried(self) -> frozenset[int]:
        """Addresses of the past's streams that are carried."""
        return frozenset(stream.address for stream in self.streams)

    def require(self, reachable: Collection[int] | None = None) -> None:
        """Raise RefusedError "stream-not-carried" for a problem.

        Args:
            reachable: Streams that the state leads to; others do not matter. None: all that libc knows.
        """
        carried = {stream.address for stream in self.streams}
        for address in self.problems if reachable is None else reachable:
            if address not in carried:
                reason = self.problems.get(
                    address, "is in no list of libc's: it writes to memory (open_memstream)"
                )
                raise RefusedError(
                    "stream-not-carried",
                    f"the stream (FILE) at {address:#x} {reason}",
                    "close it before the update",
                )


def plan_streams(
    past: Memory,
    past_maps: Sequence[MemoryMapping],
    future: Memory,
    future_maps: Sequence[MemoryMapping],
    opened: Mapping[int, int] | None = None,
) -> StreamPlan:
    """Pair the streams of two stopped processes.

    Args:
        past: Its memory.
        past_maps: Its mappings.
        future: Likewise.
        future_maps: Likewise.
        opened: Answer of an earlier ``open_streams`` for the same two; such pairs stay.
    """
    old_libc, new_libc = resolve_libc(past, past_maps), resolve_libc(future, future_maps)
    streams = list_streams(past, old_libc)
    plain = plain_vtable(past, old_libc)
    problems = {
        stream.address: reason for stream in streams if (reason := _explain(stream, past, plain)) is not None
    }
    carried = [stream for stream in streams if stream.address not in problems]
    new_plain = plain_vtable(future, new_libc)
    others = [stream for stream in list_streams(future, new_libc) if stream.vtable == new_plain]
    pairs = {old_libc.symbols[name]: new_libc.symbols[name] for name in STANDARD}
    for old, new in (opened or {}).items():
        pairs.setdefault(old, new)
    _pair_by_number(carried, others, pairs)
    wanted = {stream.address for stream in carried}
    return StreamPlan(tuple(carried), {old: new for old, new in pairs.items() if old in wanted}, problems)


def _pair_by_number(old: Sequence[Stream], new: Sequence[Stream], pairs: dict[int, int]) -> None:
    """Same descriptor; of several one with the same direction first, then in the order they were opened."""
    used = set(pairs.values())
    for stream in reversed(old):
        if stream.address in pairs or stream.number < 0:
            continue
        same = [
            other for other in reversed(new) if other.number == stream.number and other.address not in used
        ]
        same.sort(key=lambda other: (other.flags ^ stream.flags) & (NO_READS | NO_WRITES) != 0)
        if same:
            pairs[stream.address] = same[0].address
            used.add(same[0].address)


def _explain(stream: Stream, memory: Memory, plain: int) -> str | None:
    """Why a stream cannot be carried, if so."""
    if stream.vtable != plain:
        if stream.orientation > 0:
            return "is wide-character oriented"
        if stream.number < 0:
            return "writes to memory or to functions (open_memstream, fmemopen, fopencookie)"
        return "has a child process at its other end (popen) or its file mapped"
    if stream.orientation > 0:
        return "is wide-character oriented"
    if stream.lock and memory.u32(stream.lock):
        return "is locked (flockfile)"
    if max(stream.buffer[1] - stream.buffer[0], stream.saved[1] - stream.saved[0]) > _LARGEST_BUFFER:
        return "has an impossible buffer"
    return None


# ------------------------------------------------------------------------------------ deeds


def open_streams(runtime: Runtime, plan: StreamPlan) -> dict[int, int]:
    """Make the streams that the parked future lacks; nothing is opened, the descriptors may come later.

    Returns:
        Address in the past -> in the future, for every stream of the plan.
    """
    missing = [stream for stream in plan.streams if stream.address not in plan.pairs]
    rows = np.zeros(len(missing), STREAM)
    rows["flags"] = [stream.flags & _MODE for stream in missing]
    rows["number"] = [stream.number for stream in missing]
    if len(rows):
        address = runtime.stage(rows)
        runtime.call("streams_open", address, len(rows), what="a stream")
        runtime.fetch(address, rows)
    made = dict(zip((stream.address for stream in missing), rows["file"].tolist(), strict=True))
    return {**plan.pairs, **made}


def discard_streams(runtime: Runtime, files: Collection[int]) -> None:
    """Free streams that ``open_streams`` made for what the past has closed since."""
    if files:
        column = np.array(list(files), np.uint64)
        runtime.call("streams_discard", runtime.stage(column), len(column))


def restore_streams(runtime: Runtime, past: Memory, plan: StreamPlan, opened: Mapping[int, int]) -> None:
    """Put the present state of the stopped past's streams into their counterparts.

    Args:
        runtime: Of the parked future, which has the past's descriptors.
        past: Its memory.
        plan: Made while the past stands.
        opened: Answer of ``open_streams``.

    Raises:
        RefusedError: "stream-busy": the future's own start-up has used the stream in a way that cannot be
            joined with what the past has in it.
    """
    rows = np.zeros(len(plan.streams), STREAM)
    content = bytearray()
    for row, stream in zip(rows, plan.streams, strict=True):
        row["file"] = opened[stream.address]
        _describe(row, stream, past, content)
    if not len(rows):
        return
    staged = runtime.scratch(len(content) + rows.nbytes)
    for name in ("data", "pushed"):
        rows[name] += np.uint64(staged + rows.nbytes)
    runtime.memory.write(staged, rows.tobytes() + bytes(content))
    failed = runtime.call("streams_restore", staged, len(rows))
    runtime.fetch(staged, rows)
    if failed:
        row = rows[rows["result"] < 0][0]
        if row["result"] == -22:
            raise InternalError(f"no stream at {int(row['file']):#x} of the new version")
        raise RefusedError(
            "stream-busy",
            f"the new version's start-up has used the stream on descriptor {row['number']} already",
            "let its start-up flush what it prints there",
        )


def _describe(row: np.void, stream: Stream, past: Memory, content: bytearray) -> None:
    base, pointer, end = stream.read
    row["flags"], row["number"], row["orientation"] = stream.flags, stream.number, stream.orientation
    row["offset"], row["column"] = stream.offset, stream.column
    row["buffer_size"] = max(stream.buffer[1] - stream.buffer[0], 0)
    if stream.flags & PUTTING:
        row["state"] = _WRITING
        _append(row, "data", past, *stream.write, content)
        return
    if stream.flags & IN_BACKUP:
        _append(row, "pushed", past, pointer, end, content)
        base, end = stream.saved
        pointer = base
    if end > base:
        row["state"] = _READING
        row["position"] = pointer - base
        _append(row, "data", past, base, end, content)


def _append(row: np.void, name: str, past: Memory, start: int, end: int, content: bytearray) -> None:
    row[name] = len(content)
    row[f"{name}_size"] = max(end - start, 0)
    if end > start:
        content += past.read(start, end - start)
