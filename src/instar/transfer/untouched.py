"""Which static variables nobody ever changed: they hold what the program file gave them.

A static keeps the value that the new program file gives it only if neither process ever changed it. Compared
are the bytes of memory with the file's initial image after relocation. Pure.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from instar.metadata.elf import RelocationKind
from instar.metadata.version import Version
from instar.state.image import Resolver
from instar.state.kernel import Span

Array = np.ndarray[Any, np.dtype[Any]]


def initial_image(version: Version, address: int, size: int, load_bias: int, resolve: Resolver) -> Array:
    """The bytes that the loader put at a link-time address: file contents with relocations applied.

    Args:
        version: The program.
        address: Link-time start.
        size: Bytes.
        load_bias: Of the process.
        resolve: Finds symbols of other libraries; an unresolved one leaves the file's bytes.
    """
    image = np.frombuffer(version.elf.read(address, size), dtype=np.uint8).copy()
    relocations = version.elf.relocations
    inside = (relocations["address"] >= address) & (relocations["address"] + 8 <= address + size)
    for row in relocations[inside]:
        value = _relocated(version, row, load_bias, resolve)
        if value is not None:
            at = int(row["address"]) - address
            image[at : at + 8] = np.frombuffer(value.to_bytes(8, "little"), dtype=np.uint8)
    return image


def _relocated(version: Version, row: Any, load_bias: int, resolve: Resolver) -> int | None:
    if row["kind"] == RelocationKind.RELATIVE:
        return (load_bias + int(row["addend"])) % (1 << 64)
    if row["kind"] == RelocationKind.SYMBOLIC and row["symbol"] >= 0:
        target = resolve(version.elf.text(int(version.elf.symbols[row["symbol"]]["name"])))
        return None if target is None else (target + int(row["addend"])) % (1 << 64)
    return None


def untouched(span: Span, image: Array, starts: Array, sizes: Array) -> Array:
    """Per object: does the span still hold the initial image there?

    Args:
        span: A copied segment.
        image: Its initial bytes, same length.
        starts, sizes: Run-time address and bytes of the objects, all inside the span.
    """
    differs = np.concatenate([[0], np.cumsum(span.data != image)])
    first = (starts - np.uint64(span.start)).astype(np.int64)
    result: Array = differs[first + sizes.astype(np.int64)] == differs[first]
    return result
