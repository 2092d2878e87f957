"""Handlers that take all objects at once, as NumPy structured arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from instar.ext.values import RangeError, TypeMismatchError
from instar.handlers.binding import TypeTask
from instar.handlers.failures import failure
from instar.handlers.memory import BulkMemory
from instar.handlers.objects import Objects
from instar.handlers.running import CAUGHT, arguments_of
from instar.handlers.types import RECORDS, Member
from instar.handlers.views import Side

Array = np.ndarray[Any, np.dtype[Any]]
Path = Callable[[int, int], str]


def run_batch(task: TypeTask, found: Sequence[Objects], sides: tuple[Side, Side], path: Path) -> None:
    """Gather all objects, run, check, and write back what changed; raises HandlerFailure."""
    found = [objects for objects in found if len(objects)]
    if not found:
        return
    batch = _Batch(task, found, sides)
    try:
        index = batch.run()
    except CAUGHT as error:
        where = f"{len(batch)} objects of {sides[0].types.label(task.old_type)}"
        raise failure(task.handler, error, where, None, None) from error
    if index is not None:
        row, offset = batch.place(index)
        misfit = RangeError(batch.complaint)
        old, new = batch.old[index], batch.result_of(index)
        raise failure(task.handler, misfit, path(row, offset), old, new)


class _Batch:
    """One batch; ``old`` and ``new`` have one entry an object."""

    def __init__(self, task: TypeTask, found: Sequence[Objects], sides: tuple[Side, Side]) -> None:
        self._task, self._found, self._sides = task, found, sides
        self._rows = np.concatenate([objects.rows for objects in found])
        self._offsets = np.concatenate([objects.offsets for objects in found])
        self._new_addresses = np.concatenate([objects.new for objects in found])
        old_addresses = np.concatenate([objects.old for objects in found])
        self.old = gather_objects(sides[0], task.old_type, old_addresses)
        self.old.flags.writeable = False
        self.new = gather_objects(sides[1], task.new_type, self._new_addresses)
        self._before = self.new.copy()
        self._result: Array | None = None
        self.complaint = ""

    def __len__(self) -> int:
        return len(self._rows)

    def place(self, index: int) -> tuple[int, int]:
        """(row, offset) of an object."""
        return int(self._rows[index]), int(self._offsets[index])

    def result_of(self, index: int) -> Any:
        """What the handler made of one."""
        return self._result[index] if self._result is not None else self.new[index]

    def run(self) -> int | None:
        """Run and write back; the index of an object whose value does not fit, None when all do."""
        task = self._task
        if any(objects.bits for objects in self._found):
            raise TypeMismatchError("a batch cannot take bit-fields: leave out batch=True")
        handler = task.handler
        if task.new_member is None:
            if self._sides[1].types.kind(task.new_type) not in RECORDS:
                wrong = self._put(self.new, handler.function(*arguments_of(handler, (self.old,))))
            else:
                result = handler.function(*arguments_of(handler, (self.old, self.new)))
                wrong = None
                if result is not None:
                    raise TypeMismatchError("it returned something: store in `new`, and return nothing")
        else:
            wrong = self._run_member(task.new_member)
        if wrong is None:
            self._write()
        return wrong

    def _run_member(self, member: Member) -> int | None:
        task, handler = self._task, self._task.handler
        if member.name not in (self.new.dtype.names or ()):
            raise TypeMismatchError(f"{member.name} is a bit-field: leave out batch=True")
        if handler.kind == "initialize":
            arguments = arguments_of(handler, (self.old,), (self.old, self.new))
        else:
            assert task.old_member is not None
            if task.old_member.name not in (self.old.dtype.names or ()):
                raise TypeMismatchError(f"{task.old_member.name} is a bit-field: leave out batch=True")
            values = self.old[task.old_member.name]
            arguments = arguments_of(handler, (values,), (values, self.old, self.new))
        return self._put(self.new[member.name], handler.function(*arguments))

    def _put(self, target: Array, result: Any) -> int | None:
        """Store results with every loss detected."""
        values = self._result = np.asarray(result)
        if values.shape[:1] != (len(self),) or values.shape != target.shape:
            raise TypeMismatchError(f"it returned values of shape {values.shape}, not {target.shape}")
        if values.dtype.kind not in "biufSV" or (values.dtype.kind in "SV") != (target.dtype.kind in "SV"):
            raise TypeMismatchError(f"it returned values of type {values.dtype}, not {target.dtype}")
        if values.dtype.kind == "f" and target.dtype.kind in "iu":
            raise TypeMismatchError(f"it returned floats for {target.dtype}: say .astype(...) to cut them")
        with np.errstate(all="ignore"):
            target[...] = values.astype(target.dtype)
        same = _same(target, values)
        if same.all():
            return None
        index = int(np.flatnonzero(~same.reshape(len(self), -1).all(axis=1))[0])
        self.complaint = f"{values[index]!r} does not fit {target.dtype}"
        return index

    def _write(self) -> None:
        after = self.new.view(np.uint8).reshape(len(self), -1)
        before = self._before.view(np.uint8).reshape(len(self), -1)
        _bulk(self._sides[1]).write_many(self._new_addresses, before, after)


def _bulk(side: Side) -> BulkMemory:
    memory = side.memory
    if not isinstance(memory, BulkMemory):
        raise TypeMismatchError("a batch works on a whole state only")
    return memory


def _same(stored: Array, wanted: Array) -> Array:
    """Where a stored value is the one that was wanted; floats may round."""
    if stored.dtype.kind == "f":
        result: Array = np.isfinite(stored) == np.isfinite(wanted.astype(np.float64))
        return result
    if stored.dtype.kind in "SV":
        return np.asarray(stored == wanted)
    # in Python's sense: a negative number is no large unsigned one
    back = stored.astype(wanted.dtype)
    return np.asarray((back == wanted) & ((stored < 0) == (wanted < 0)))


def gather_objects(side: Side, type_row: int, addresses: Array) -> Array:
    """The objects at some addresses as one structured array."""
    dtype = side.types.dtype(type_row)
    size = side.types.size(type_row)
    return _bulk(side).read_many(addresses, size).reshape(-1).view(dtype)
