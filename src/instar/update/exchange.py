"""Plain data between the tool and its worker, in a form that is safe to decode from an untrusted peer.

A frame is JSON with bytes behind it. Values are taken apart by what they are and put together by the type
that the receiver expects, field by field: nothing that comes in chooses a class, a function or a place.
Arrays that lie in the memory that both share travel as offsets, all others as bytes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import struct
import time
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np

from instar.errors import InstarError

Array = np.ndarray[Any, np.dtype[Any]]

_HEAD = struct.Struct("<IQ")
MOST_TEXT, MOST_BYTES = 64 << 20, 8 << 30
_KINDS = "buifV"
_PLAIN = re.compile(rf"[<|][{_KINDS}][0-9]{{1,6}}", re.ASCII)
_PIECE = 1 << 20
_LARGE = 256 << 10
_SHORTEST_S = 0.001


class GarbageError(InstarError):
    """What came over is not what it should be."""

    def __init__(self, what: str) -> None:
        self.what = what[:200]
        super().__init__(
            "worker-garbage",
            f"the worker's answer is none: {self.what}",
            "please report it with the output of `instar doctor PID`",
        )


class WorkerLostError(InstarError):
    """The worker has ended, was ended, or does not answer."""

    def __init__(self, why: str) -> None:
        self.how = why
        super().__init__(
            "worker-lost",
            f"the process that plans the transfer and runs the handlers {why}",
            "look at what the handlers do, at the memory that is left, and try again",
        )


class SharedBytes(typing.Protocol):
    """Memory that both ends have mapped."""

    def offset_of(self, local: int, size: int) -> int | None:
        """Where an address is in it; None: elsewhere."""

    def view(self, offset: int, size: int) -> Array:
        """Bytes of it; raises ValueError outside of it."""

    def array(self, size: int) -> Array:
        """Room for so many bytes."""


# -------------------------------------------------------------------------------------------- frames


class Wire:
    """One end of the connection.

    Args:
        channel: A stream.
        shared: Memory that both ends have mapped, if there is any.
    """

    def __init__(self, channel: socket.socket, shared: SharedBytes | None) -> None:
        self.channel, self._shared = channel, shared
        self.most_bytes = MOST_BYTES  # of one message
        self.until: float | None = None  # time.monotonic: what comes later is too late
        self.lent: list[Array] = []  # shared memory that the other end may still look at

    def send(self, kind: str, *values: object) -> None:
        """Send a message; raises OSError."""
        arrays: list[Array] = []
        plain = _encode([kind, *values], arrays)
        described, parts = [], []
        for array in arrays:
            offset = self._offset(array)
            described.append([_describe(array.dtype), list(array.shape), offset])
            if offset is None:
                parts.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        text = json.dumps([plain, described], separators=(",", ":")).encode(errors="surrogatepass")
        total = sum(part.nbytes for part in parts)
        self.channel.sendall(_HEAD.pack(len(text), total) + text)
        for part in parts:
            self.channel.sendall(part)

    def _offset(self, array: Array) -> int | None:
        if self._shared is None or not array.nbytes:
            return None
        if array.flags.c_contiguous:
            offset = self._shared.offset_of(array.ctypes.data, array.nbytes)
            if offset is not None or array.nbytes < _LARGE:
                return offset
        room = self._shared.array(array.nbytes)
        room[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.lent.append(room)
        return self._shared.offset_of(room.ctypes.data, array.nbytes)

    def receive(self) -> Message:
        """The next message; raises EOFError at the end, GarbageError, OSError, TimeoutError."""
        length, total = _HEAD.unpack(self._read(_HEAD.size))
        if length > MOST_TEXT or total > self.most_bytes:
            raise GarbageError(f"{length} and {total} bytes")
        text = bytes(self._read(length))
        data = self._read(total)
        try:
            plain, described = json.loads(text)
            arrays = list(self._arrays(described, data))
            if not isinstance(plain, list) or not plain or not isinstance(plain[0], str):
                raise GarbageError(f"{plain!r:.100}")
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise GarbageError(f"{type(error).__name__}: {error}") from error
        return Message(plain[0], plain[1:], arrays)

    def _read(self, size: int) -> memoryview:
        buffer = np.empty(size, np.uint8).data
        done = 0
        while done < size:
            if self.until is not None:
                self.channel.settimeout(max(self.until - time.monotonic(), _SHORTEST_S))
            count = self.channel.recv_into(buffer[done : done + _PIECE])
            if not count:
                raise EOFError
            done += count
        return buffer

    def _arrays(self, described: Sequence[Any], data: memoryview) -> typing.Iterator[Array]:
        at = 0
        for description, shape, offset in described:
            dtype = _dtype(description)
            if len(shape) > 2 or not all(type(n) is int and 0 <= n <= MOST_BYTES for n in shape):
                raise GarbageError(f"an array of {shape}")
            size = dtype.itemsize
            for length in shape:
                size *= length
            if offset is not None:
                if self._shared is None or type(offset) is not int:
                    raise GarbageError("no shared memory")
                yield self._shared.view(offset, size).view(dtype).reshape(shape)
                continue
            if size > len(data) - at:
                raise GarbageError("an array that was cut off")
            yield np.frombuffer(data[at : at + size], dtype).reshape(shape)
            at += size


@dataclasses.dataclass(frozen=True)
class Message:
    """What came: a word, and values that are looked at by ``value``."""

    kind: str
    plain: list[Any]
    arrays: list[Array]

    def value(self, index: int, expected: Any) -> Any:
        """A value of an expected type; raises GarbageError."""
        if index >= len(self.plain):
            raise GarbageError(f"{self.kind} with {len(self.plain)} values")
        return _decode(expected, self.plain[index], self.arrays)


# -------------------------------------------------------------------------------------------- values


def _describe(dtype: np.dtype[Any]) -> Any:
    if dtype.names is None:
        return dtype.str
    offsets = [[name, dtype.fields[name][0].str, dtype.fields[name][1]] for name in dtype.names]  # type: ignore[index]
    return [offsets, dtype.itemsize]


def _dtype(description: Any) -> np.dtype[Any]:
    if isinstance(description, str):
        dtype = np.dtype(_plain(description))
    else:
        fields, size = description
        names, formats, offsets = zip(*fields, strict=True)
        formats = tuple(_plain(one) for one in formats)
        dtype = np.dtype(
            {"names": list(names), "formats": list(formats), "offsets": list(offsets), "itemsize": size}
        )
    if dtype.hasobject or dtype.kind not in _KINDS or not dtype.itemsize:
        raise GarbageError(f"an array of {description!r:.50}")
    return dtype


def _plain(text: Any) -> str:
    """One number or so many bytes: NumPy reads far more out of a text, expressions of Python's among it."""
    if not isinstance(text, str) or not _PLAIN.fullmatch(text):
        raise GarbageError(f"an array of {text!r:.50}")
    return text


def _encode(value: object, arrays: list[Array]) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value)
    if isinstance(value, bytes | bytearray):
        value = np.frombuffer(value, np.uint8)
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if dataclasses.is_dataclass(value):
        return [_encode(getattr(value, field.name), arrays) for field in _fields(type(value))]
    if isinstance(value, Mapping):
        return [[_encode(key, arrays), _encode(one, arrays)] for key, one in value.items()]
    if isinstance(value, tuple | list | set | frozenset):
        return [_encode(one, arrays) for one in value]
    raise TypeError(f"{type(value).__name__} does not go over")


def _fields(cls: type) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.init and field.repr]


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode(expected: Any, plain: Any, arrays: list[Array]) -> Any:
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        return _decode_one_of(arguments, plain, arrays)
    if origin is Literal:
        found = [one for one in arguments if type(one) is type(plain) and one == plain]
        return found[0] if found else _wrong(expected, plain)
    if expected is bytes or origin is np.ndarray:
        array = _array_of(plain, arrays)
        return array.tobytes() if expected is bytes else array
    if expected in (int, str, bool) or expected is type(None):
        return plain if type(plain) is (expected) else _wrong(expected, plain)
    if expected is float:
        return float(plain) if type(plain) in (int, float) else _wrong(expected, plain)
    if not isinstance(plain, list):
        return _wrong(expected, plain)
    if dataclasses.is_dataclass(expected):
        return _decode_dataclass(expected, plain, arrays)
    return _decode_many(expected, origin, arguments, plain, arrays)


def _decode_one_of(choices: Sequence[Any], plain: Any, arrays: list[Array]) -> Any:
    if plain is None and type(None) in choices:
        return None
    for choice in choices:
        try:
            if choice is not bytes:  # bytes travel as arrays
                return _decode(choice, plain, arrays)
        except GarbageError:
            continue
    return _wrong(choices, plain)


def _decode_dataclass(expected: Any, plain: list[Any], arrays: list[Array]) -> Any:
    fields, hints = _fields(expected), _hints(expected)
    if len(plain) != len(fields):
        return _wrong(expected, plain)
    values = {f.name: _decode(hints[f.name], one, arrays) for f, one in zip(fields, plain, strict=True)}
    return expected(**values)


def _decode_many(
    expected: Any, origin: Any, arguments: tuple[Any, ...], plain: list[Any], arrays: list[Array]
) -> Any:
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_decode(arguments[0], one, arrays) for one in plain)
        if len(arguments) == len(plain):
            return tuple(_decode(one, p, arrays) for one, p in zip(arguments, plain, strict=True))
    elif origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        pairs = [_decode(tuple[arguments], one, arrays) for one in plain]  # type: ignore[valid-type]
        return dict(pairs)
    elif origin in (list, frozenset):
        return origin(_decode(arguments[0], one, arrays) for one in plain)
    elif isinstance(origin, type) and issubclass(origin, Sequence):
        return [_decode(arguments[0], one, arrays) for one in plain]
    return _wrong(expected, plain)


def _array_of(plain: Any, arrays: list[Array]) -> Array:
    index = plain.get("array") if isinstance(plain, dict) else None
    if type(index) is not int or not 0 <= index < len(arrays):
        _wrong("array", plain)
    return arrays[index]


def _wrong(expected: Any, plain: Any) -> typing.NoReturn:
    raise GarbageError(f"{plain!r:.60} in place of {getattr(expected, '__name__', expected)!s:.60}")
