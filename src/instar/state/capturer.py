"""Copies a stopped process into an ``Image``; changes nothing in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from instar.heap.glibc import GlibcHeap
from instar.heap.image import HeapImage
from instar.heap.inherited import LIBRARY, read_inherited
from instar.heap.modules import Module, read_modules
from instar.metadata.version import Version
from instar.process.access import read_proc
from instar.process.exports import Exports, read_exports
from instar.process.held import Standing
from instar.process.maps import DELETED, Mapping, read_maps
from instar.process.memory import Memory
from instar.process.unwind import prepare, unwind
from instar.state.arguments import ArgumentArea, argument_area
from instar.state.capture import Layouts, Subject, heap_spans, program_bias, static_spans, tls_span
from instar.state.frames import ProgramFrame, program_frames
from instar.state.image import Image
from instar.state.kernel import Span
from instar.state.mapped_spans import heap_ranges, mapped_spans
from instar.state.mirror import Mirror
from instar.state.repaired import RepairedMemory, Repairer
from instar.state.slots import TypeTable

Array = np.ndarray[Any, np.dtype[Any]]

_CANARY_OFFSET = 0x28  # of the thread control block (x86-64 psABI, glibc's tcbhead_t.stack_guard)


class Capturer:
    """Copies one process, again and again; remembers what does not change between two copies.

    Args:
        tracee: Its thread, stopped whenever a method is called.
        version: What it runs.
        table: The version's types.
        mirror: Where heap ranges are copied to; with one, the next image shares its bytes with the one before
            and says what changed. Without, every image has its own.

    Attributes:
        repairer: Repairs every copy; None for none.
    """

    def __init__(
        self, tracee: Standing, version: Version, table: TypeTable, mirror: Mirror | None = None
    ) -> None:
        self.tracee, self.version = tracee, version
        self._layouts = Layouts(version, table)
        self.mirror = mirror
        self.repairer: Repairer | None = None
        self.memory = tracee.memory
        self.program = self.find_program()
        self._exports: dict[str, Exports | None] = {}
        self._heap: GlibcHeap | None = None
        self._spans: tuple[HeapImage, list[Span]] | None = None
        self._modules: tuple[list[tuple[int, int, str]], list[Module]] | None = None

    def prepare(self) -> None:
        """Open what the first unwinding and the first heap walk need."""
        maps = read_maps(self.tracee.pid)
        prepare(self.memory, maps)

    def find_program(self) -> str:
        """Path of its program file as mapped."""
        return os.fsdecode(read_proc(self.tracee.pid, "exe")).removesuffix(DELETED)

    def maps(self) -> Sequence[Mapping]:
        """Its mappings as they are now."""
        return read_maps(self.tracee.pid)

    def arguments(self) -> ArgumentArea:
        """Where its argv and environment are."""
        return argument_area(self.tracee.pid, self.memory.read)

    def subject(self) -> Subject:
        """The process as it stands."""
        maps = self.maps()
        bias = program_bias(self.version, maps, self.program)
        pointer = self.tracee.registers().fs_base
        modules = self._loaded(maps)
        return Subject(self.tracee.pid, self.version, self.memory, maps, bias, pointer, modules)

    def image(self, *, heap: bool) -> Image:
        """Copy the process, with repairs if there are any; its heap only if asked for."""
        if self.repairer is None:
            return self._copy_all(heap)
        self._use(self.tracee.memory)
        overlay = self.repairer.repair_variables(self.subject())
        self._use(RepairedMemory(self.tracee.memory, overlay))
        image = self._copy_all(heap)
        if self.repairer.repair_objects(image, overlay):
            image = self._copy_all(heap)
        image.overlay, image.changes = overlay, None
        return image

    def _use(self, memory: Memory) -> None:
        self.memory = memory
        if self._heap is not None:
            self._heap.memory = memory

    def _copy_all(self, heap: bool) -> Image:
        if self.mirror is not None:
            self.mirror.begin()
        subject = self.subject()
        frames = unwind(self.tracee.registers(), self.memory, subject.maps)
        pointer = subject.thread_pointer or 0
        own = program_frames(subject, frames, self.program)
        spans = self._heap_spans(subject) if heap else []
        return Image(
            subject=subject,
            program=self.program,
            statics=static_spans(subject, self._layouts),
            tls=tls_span(subject, self._layouts),
            heap=spans,
            frames=frames,
            program_frames=own,
            canary=self.memory.u64(pointer + _CANARY_OFFSET),
            arguments=self.arguments(),
            resolve=lambda name: self._resolve(subject.maps, name),
            registers=self.tracee.registers(),
            changes=self.mirror.end() if self.mirror is not None else None,
            round=self.mirror.round if self.mirror is not None else 0,
            stack=self._stack(own),
        )

    def _stack(self, frames: Sequence[ProgramFrame]) -> tuple[int, bytes]:
        """From the innermost frame of the program to the return address of the outermost."""
        if not frames:
            return 0, b""
        low, high = frames[0].low, max(frame.high for frame in frames) + 8
        return low, self.memory.read(low, high - low)

    def _heap_spans(self, subject: Subject) -> list[Span]:
        """glibc's own blocks and those that the process inherited in earlier updates."""
        if self._heap is None:
            pointers = [subject.thread_pointer] if subject.thread_pointer is not None else None
            self._heap = GlibcHeap(self.memory, subject.maps, thread_pointers=pointers)
        inherited = read_inherited(self.memory, subject.maps)
        ranges = [(int(row["start"]), int(row["end"])) for row in inherited.ranges]
        reader = None if self.mirror is None else self._read
        image = self._heap.enumerate(subject.maps, exclude=ranges, reader=reader, changes=self._changes)
        if self._spans is None or self._spans[0] is not image:
            self._spans = image, heap_spans([(r.start, r.data) for r in image.regions], image.blocks)
        spans = [replace(span) for span in self._spans[1]]
        spans += heap_spans([self._copy(*bounds) for bounds in ranges], inherited.blocks)
        taken = [*heap_ranges(image), *ranges]
        return spans + mapped_spans(
            self.memory, subject.maps, subject.modules, subject.thread_pointer, taken, self._read
        )

    def _loaded(self, maps: Sequence[Mapping]) -> list[Module]:
        """The loaded files, read again when others are mapped."""
        files = [(m.start, m.end, m.path) for m in maps if m.file]
        if self._modules is None or self._modules[0] != files:
            self._modules = files, read_modules(self.memory, maps)
        return self._modules[1]

    def _changes(self) -> tuple[Array, Array] | None:
        found = None if self.mirror is None else self.mirror.changes()
        return None if found is None else (found.rows, found.saved)

    def _copy(self, start: int, end: int) -> tuple[int, Array]:
        return start, self._read(start, end - start)

    def _read(self, address: int, size: int) -> Array:
        if self.mirror is not None:
            return self.mirror.read(self.memory, address, size)
        data = np.empty(size, dtype=np.uint8)
        self.memory.read_into(address, data)
        return data

    def _resolve(self, maps: list[Mapping] | Any, name: str) -> int | None:
        """Address of a dynamic symbol; what is preloaded comes first."""
        for mapping in sorted(maps, key=lambda m: not m.path.endswith(LIBRARY)):
            if mapping.offset == 0 and mapping.file:
                if mapping.file not in self._exports:
                    self._exports[mapping.file] = read_exports(self.memory, mapping)
                exports = self._exports[mapping.file]
                if exports is not None and name in exports.symbols:
                    return exports.symbols[name]
        return None
