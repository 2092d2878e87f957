"""Repairs of a tainted state: code of the user runs over a writable copy of the past, before all else.

What a repair writes lies over what is read of the past from then on (``state.repaired``): typing, planning,
conversion and comparison see the repaired state, the process itself is never written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from instar.errors import RefusedError
from instar.ext.context import within
from instar.ext.registry import Handler
from instar.ext.values import HandlerError, PointerError
from instar.handlers.failures import HandlerFailure, failure
from instar.handlers.guarding import bounded
from instar.handlers.memory import checked_read
from instar.handlers.module import load_handlers
from instar.handlers.names import Name, version_names
from instar.handlers.objects import ObjectFinder
from instar.handlers.paths import handled_path
from instar.handlers.running import CAUGHT, arguments_of
from instar.handlers.store import store
from instar.handlers.surroundings import Desk, StateView
from instar.handlers.types import RECORDS
from instar.handlers.views import Side, StructView, load
from instar.metadata.version import Version
from instar.pairing.mapping import TypePairing
from instar.process.maps import Mapping, find_mapping
from instar.process.memory import Memory
from instar.state.capture import Subject, known_ranges
from instar.state.columns import Fate
from instar.state.image import Image
from instar.state.kernel import State
from instar.state.paths import word_path
from instar.state.repaired import Overlay, Repair, RepairedMemory
from instar.state.slots import TypeTable
from instar.state.typing import type_state
from instar.transfer.mappings import MappingPool
from instar.transfer.places import address_of
from instar.transfer.stack import FramePair, stack_spans

_LISTED = 8
_WORD = 8


class WritableCopy:
    """The past's memory as repairs see it: their writes go into an overlay.

    Args:
        memory: Of the process.
        maps: Its mappings.
        program: Path of its program file.
        overlay: Where writes go.
    """

    def __init__(self, memory: Memory, maps: list[Mapping], program: str, overlay: Overlay) -> None:
        self._memory = RepairedMemory(memory, overlay)
        self._maps, self._program, self._overlay = maps, program, overlay

    def read(self, address: int, size: int) -> bytes:
        """Bytes; raises PointerError where there are none."""
        return checked_read(self._memory.read, address, size)

    def write(self, address: int, data: bytes) -> None:
        """Into the overlay; raises PointerError where the process itself could not write, or is not alone."""
        for at in (address, address + len(data) - 1):
            found = find_mapping(self._maps, at)
            if found is None or not found.writable:
                raise PointerError(f"{at:#x} is in no memory that the program may write")
            if found.shared or (found.file and found.file != self._program):
                raise PointerError(f"{at:#x} is in {found.path}, which is not the program's own memory")
        self._overlay.put(address, self.read(address, len(data)), data)


class Repairs:
    """The repairs of one update.

    Args:
        path: The user's file.
        version: What the past runs.
        table: Its types.

    Raises:
        RefusedError: "handlers-not-loaded", "handler-unknown-name", "handler-mismatch".
    """

    def __init__(self, path: Path, version: Version, table: TypeTable) -> None:
        self._version, self._table = version, table
        self._names = version_names(version, "old")
        self._types = self._names.types
        self._variables: list[tuple[Handler[..., Any], Name]] = []
        self._objects: list[tuple[Handler[..., Any], int]] = []
        self._pool: MappingPool | None = None
        registry = load_handlers(path)
        if registry.pairs or not registry.handlers:
            raise _mismatch(str(path), "a file of repairs has functions with @repair, and nothing else")
        for handler in registry.handlers:
            self._bind(handler)

    def _bind(self, handler: Handler[..., Any]) -> None:
        if handler.kind != "repair":
            raise _mismatch(str(handler.line), f"@{handler.kind} is no repair: it goes in a --handlers file")
        name = self._names.resolve(handler.target, handler.line)
        if name.kind == "variable":
            self._variables.append((handler, name))
        elif name.kind == "type" and self._types.kind(name.row) in RECORDS:
            self._objects.append((handler, name.row))
        else:
            what = "a type that is no struct or union" if name.kind == "type" else f"a {name.kind}"
            raise _mismatch(str(handler.line), f"@repair is for structs and variables, not for {what}")

    # Both rounds --------------------------------------------------------------------------------------------

    def repair_variables(self, subject: Subject) -> Overlay:
        """See ``Repairer``."""
        overlay = Overlay()
        if self._variables:
            side = self._side(subject, self._program_of(subject), overlay)
            desk = self._desk(side, lambda row: _address(self._version, subject, row))
            self._run(desk, [partial(self._variable, *one, side, subject) for one in self._variables])
        return overlay

    def repair_objects(self, image: Image, overlay: Overlay) -> bool:
        """See ``Repairer``."""
        if not self._objects:
            return False
        before = len(overlay.repairs)
        side = self._side(image.subject, image.program, overlay)
        desk = self._desk(side, lambda row: address_of(image, row))
        state = self._typed(image)
        self._run(desk, [partial(self._each, *one, side, state) for one in self._objects])
        return len(overlay.repairs) > before

    def _program_of(self, subject: Subject) -> str:
        found = find_mapping(subject.maps, subject.load_bias + int(self._version.elf.loads[0].address))
        return found.file if found is not None else ""

    def _side(self, subject: Subject, program: str, overlay: Overlay) -> Side:
        memory = WritableCopy(subject.memory, list(subject.maps), program, overlay)
        return Side(self._types, memory, lambda address, _old, _new, _path: address, "old")

    def _desk(self, side: Side, address: Callable[[int], int]) -> Desk:
        return Desk(StateView(self._names, side, address), None, (side, None))

    @staticmethod
    def _run(desk: Desk, tasks: list[Callable[[], None]]) -> None:
        try:
            with bounded(), within(desk):
                for task in tasks:
                    task()
        except HandlerFailure as failed:
            problem = failed.problem
            raise RefusedError(problem.code, problem.cause, "correct the repair") from failed

    # Running ------------------------------------------------------------------------------------------------

    def _variable(self, handler: Handler[..., Any], name: Name, side: Side, subject: Subject) -> None:
        kind = int(self._version.variables["type"][name.row])
        address = _address(self._version, subject, name.row)
        value = None
        try:
            value = load(side, kind, address, name.text)
            result = handler.function(*arguments_of(handler, (value,)))
            if result is not None:
                store(side, kind, address, result, name.text)
        except CAUGHT as error:
            raise failure(handler, error, name.text, value, None) from error

    def _each(self, handler: Handler[..., Any], row: int, side: Side, state: State) -> None:
        assert self._pool is not None
        finder = ObjectFinder(state, self._pool, {})
        found = finder.find(row, self._types.strip(self._pool.pairing.counterpart(row) or row))
        for _, problem in finder.problems:
            cause = f"{handler.line}: {self._types.label(row)}: {problem.cause}"
            raise RefusedError(problem.code, cause, 'start the repair at a variable: @repair("name")')
        for objects in found:
            for index, address in enumerate(objects.old.tolist()):
                view = StructView(side, row, address, "old")
                try:
                    result = handler.function(*arguments_of(handler, (view,)))
                    if result is not None:
                        raise HandlerError(f"it returned {result!r}: store in the object, and return nothing")
                except CAUGHT as error:
                    place = int(objects.rows[index]), int(objects.offsets[index])
                    path = handled_path(state, self._version, place, row, {})
                    raise failure(handler, error, path, view, None) from error

    def _typed(self, image: Image) -> State:
        """The state with its objects typed and nothing decided; locals of its frames are roots."""
        if self._pool is None:
            self._pool = MappingPool(TypePairing(self._version, self._version), self._table)
        pairs = [FramePair(frame, frame, True) for frame in image.program_frames]
        spans = [*image.statics, *image.heap, *([image.tls] if image.tls is not None else [])]
        spans.extend(stack_spans(pairs, image.subject.memory.read, self._version))
        state = State(self._table, spans)
        type_state(state, self._version, known_ranges(image.subject.maps))
        state.objects["fate"] = Fate.STAY
        return state


def repaired_texts(
    overlay: Overlay | None, state: State, version: Version, names: dict[int, str]
) -> list[str]:
    """One line a repaired place, the first ones: path, what was there, what is there now."""
    if overlay is None or not overlay:
        return []
    repairs = overlay.repairs
    texts = [f"repaired: {_told(repair, state, version, names)}" for repair in repairs[:_LISTED]]
    if len(repairs) > _LISTED:
        texts.append(f"repaired: {len(repairs) - _LISTED} more places")
    return texts


def _told(repair: Repair, state: State, version: Version, names: dict[int, str]) -> str:
    row = state.find(repair.address)
    place = f"{repair.address:#x}"
    if row is not None and state.objects["address"][row] <= repair.address:
        offset = repair.address - int(state.objects["address"][row])
        place = word_path(state, version, row, offset, names)
    return f"{place}: {_shown(repair.before)} became {_shown(repair.after)}"


def _shown(data: bytes) -> str:
    if len(data) <= _WORD:
        return hex(int.from_bytes(data, "little"))
    return f"{data[:16].hex()}{'...' if len(data) > 2 * _WORD else ''} ({len(data)} bytes)"


def _address(version: Version, subject: Subject, row: int) -> int:
    """Run-time address of a variable, thread-local ones included."""
    variable = version.variables[row]
    if not variable["tls"]:
        return int(variable["address"]) + subject.load_bias
    tls = version.elf.tls
    if tls is None or subject.thread_pointer is None:
        raise HandlerError("the thread-local variables of the process are not there")
    align = max(int(tls.align), 1)
    return subject.thread_pointer - (tls.size + align - 1) // align * align + int(variable["address"])


def _mismatch(line: str, text: str) -> RefusedError:
    return RefusedError("handler-mismatch", f"{line}: {text}", "see docs/validation.md for repairs")
