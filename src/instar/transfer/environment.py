"""The environment: what setenv, putenv and unsetenv did in the past goes over to the future. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from instar.errors import FaultError
from instar.state.image import Image
from instar.transfer.plan import Write

_WORDS = 1 << 14
_LONGEST = 1 << 20
_PIECE = 256


@dataclass(frozen=True)
class Environment:
    """What differs between a process's environment and the one it was started with.

    Attributes:
        changed: Name -> "NAME=value", set or set anew.
        removed: Names.
    """

    changed: dict[bytes, bytes]
    removed: frozenset[bytes]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def changed_environment(past: Image) -> Environment:
    """What the program has changed; nothing where its environment cannot be read."""
    live = _live(past)
    if live is None:
        return Environment({}, frozenset())
    area = past.arguments.environment
    read = past.subject.memory.read
    first = {name: read(address, size)[:-1] for name, (address, size) in area.items() if name}
    now = {word.split(b"=", 1)[0]: word for word in reversed(live)}  # the first of a name counts
    changed = {name: word for name, word in now.items() if first.get(name) != word}
    return Environment(changed, frozenset(first.keys() - now.keys()))


def is_vector_kept(past: Image, future: Image) -> bool:
    """Whether the vector that the past was given at its start still says what it said then.

    The future must have been given the same variables in the same order. What it has besides comes last.

    libc puts a new word into that vector when a variable is set that was there. Programs that set their title
    put copies of the texts there.
    """
    area, names = past.arguments, _names(past)
    if not area.environment_pointers or names != _names(future)[: len(names)]:
        return False
    read = past.subject.memory.read
    try:
        words = _vector(past, area.environment_pointers)
        return words == [read(*area.environment[name])[:-1] for name in names]
    except FaultError:
        return False


def _names(image: Image) -> list[bytes]:
    """In order; the runtime has left an empty text where LD_PRELOAD was."""
    return [name for name in image.arguments.environment if name]


def encode(environment: Environment, future: Image, address: int) -> bytes | None:
    """The future's environment with these changes, as it will lie at an address: words, then the strings."""
    own = _live(future)
    if own is None:
        return None
    words = {word.split(b"=", 1)[0]: word for word in own} | environment.changed
    kept = [word for name, word in words.items() if name not in environment.removed]
    at = address + 8 * (len(kept) + 1)
    pointers, strings = b"", b""
    for word in kept:
        pointers += (at + len(strings)).to_bytes(8, "little")
        strings += word + b"\0"
    return pointers + bytes(8) + strings


def write_environment(future: Image, address: int) -> Write | None:
    """Make an address the future's environment."""
    place = _variable(future)
    return None if place is None else Write(place, address.to_bytes(8, "little"))


def _variable(image: Image) -> int | None:
    """Where ``environ`` is: in the program, if that names it (a copy relocation), else in libc."""
    elf = image.subject.version.elf
    for row in elf.find_symbols("environ"):
        if elf.symbols["value"][row] and elf.symbols["section"][row]:
            return int(elf.symbols["value"][row]) + image.subject.load_bias
    return image.resolve("environ")


def _live(image: Image) -> list[bytes] | None:
    """The words that ``environ`` leads to."""
    place = _variable(image)
    if place is None:
        return None
    try:
        return _vector(image, int.from_bytes(image.subject.memory.read(place, 8), "little"))
    except FaultError:
        return None


def _vector(image: Image, vector: int) -> list[bytes] | None:
    """The texts of a vector of words; None where it has no end."""
    words: list[bytes] = []
    while vector and len(words) < _WORDS:
        pointer = int.from_bytes(image.subject.memory.read(vector + 8 * len(words), 8), "little")
        if not pointer:
            return words
        words.append(_string(image, pointer))
    return None if vector else words


def _string(image: Image, address: int) -> bytes:
    text = b""
    while b"\0" not in text and len(text) < _LONGEST:
        step = _PIECE - (address + len(text)) % _PIECE  # never across the end of a page
        text += image.subject.memory.read(address + len(text), step)
    return text.split(b"\0", 1)[0]
