"""Binds a handler module to two versions: every name to its row, and what pairing has to know. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from instar.errors import RefusedError
from instar.ext.registry import Handler, Line, Registry
from instar.handlers.names import Name, Names, version_names
from instar.handlers.types import RECORDS, Member, Types
from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.pairing.layout import Layout
from instar.pairing.settled import Owned, Settled

_ORDER = {"resolve_union": 0, "resolve_pointer": 1, "transform": 2, "initialize": 3}


@dataclass(frozen=True)
class TypeTask:
    """A handler that runs for every object of a type.

    Attributes:
        handler: The handler.
        old_type, new_type: Stripped rows.
        old_member, new_member: What a member handler reads and writes; None for whole objects.
    """

    handler: Handler[..., Any]
    old_type: int
    new_type: int
    old_member: Member | None = None
    new_member: Member | None = None

    @property
    def rank(self) -> int:
        """Members before whole objects, and what reads new members after what writes them."""
        whole = self.handler.kind == "transform" and self.new_member is None
        return 4 if whole else _ORDER[self.handler.kind]


@dataclass(frozen=True)
class VariableTask:
    """A handler that makes one variable; ``old_variable`` is None for an initialiser."""

    handler: Handler[..., Any]
    old_variable: int | None
    new_variable: int


@dataclass(frozen=True)
class KindPair:
    """Objects of different kind that are one: ``old`` and ``new`` are a variable, heap block or local."""

    old: Name
    new: Name
    line: Line


@dataclass(eq=False)
class Binding:
    """A handler module in terms of two versions.

    Attributes:
        registry: The module.
        old, new: Types of both versions.
        settled: For ``plan_pairing``.
        type_tasks, variable_tasks: In the order in which they run.
        kind_pairs: Pairs that only the planner can make.
    """

    registry: Registry
    old: Types
    new: Types
    settled: Settled
    type_tasks: tuple[TypeTask, ...] = ()
    variable_tasks: tuple[VariableTask, ...] = ()
    kind_pairs: tuple[KindPair, ...] = ()


def answered_range(binding: Binding, task: TypeTask) -> tuple[int, int]:
    """Bytes of an old object that a member handler answers for; of an anonymous union, all of it."""
    assert task.old_member is not None
    member = task.old_member
    low, size = member.offset, max(binding.old.size(binding.old.strip(member.type)), 1)
    if task.handler.kind == "resolve_union":
        members = binding.old.members(task.old_type).values()
        ends = [m.offset + binding.old.size(binding.old.strip(m.type)) for m in members if m.offset == low]
        size = max([*ends, low + size]) - low
    return low, size


def bind(registry: Registry, old: Version, new: Version) -> Binding:
    """Bind; raises RefusedError "handler-unknown-name", "handler-ambiguous", "handler-conflict"."""
    return _Binder(registry, version_names(old, "old"), version_names(new, "new")).bind()


@dataclass
class _Binder:
    registry: Registry
    old: Names
    new: Names
    renames: dict[str, str] = field(default_factory=dict)
    members: dict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    variables: dict[int, int] = field(default_factory=dict)
    functions: dict[int, int] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)
    owned: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    seen: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    answered: set[int] = field(default_factory=set)
    written: dict[Any, Handler[..., Any]] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    types: list[TypeTask] = field(default_factory=list)
    of_variables: list[VariableTask] = field(default_factory=list)
    kinds: list[KindPair] = field(default_factory=list)

    def bind(self) -> Binding:
        """Pairs first: handlers find old names through them."""
        for handler in self.registry.of("repair"):
            raise _mismatch(handler.line, "@repair goes in a file of its own, for --tainted repair=FILE")
        for pair in self.registry.pairs:
            self._pair(pair.old, pair.new, pair.line)
            self.lines.append((f"{pair.old} -> {pair.new}", str(pair.line)))
        for handler in self.registry.of("transform"):
            self._pair_of_transform(handler)
        for handler in self.registry.of("transform", "initialize", "resolve_union", "resolve_pointer"):
            self._handler(handler)
            self.lines.append((handler.target, f"{handler.line} ({handler.kind})"))
        old_variables = {t.old_variable for t in self.of_variables if t.old_variable is not None}
        old_variables |= {p.old.row for p in self.kinds if p.old.kind == "variable"}
        new_variables = {t.new_variable for t in self.of_variables}
        new_variables |= {p.new.row for p in self.kinds if p.new.kind in ("variable", "heap")}
        settled = Settled(
            self.renames,
            {row: dict(names) for row, names in self.members.items()},
            self.variables,
            self.functions,
            {
                row: Owned(row in self.whole, frozenset(self.owned.get(row, ())))
                for row in self.whole | self.owned.keys()
            },
            {row: frozenset(names) for row, names in self.seen.items()},
            frozenset(old_variables),
            frozenset(new_variables),
            frozenset(p.old.row for p in self.kinds if p.old.kind == "variable"),
            frozenset(self.answered),
            tuple(self.lines),
        )
        tasks = tuple(sorted(self.types, key=lambda task: task.rank))
        return Binding(
            self.registry,
            self.old.types,
            self.new.types,
            settled,
            tasks,
            tuple(self.of_variables),
            tuple(self.kinds),
        )

    # Pairs --------------------------------------------------------------------------------------------------

    def _pair(self, old_text: str, new_text: str, line: Line) -> None:
        old, new = self.old.resolve(old_text, line), self.new.resolve(new_text, line)
        if "local" in (old.kind, new.kind) or "heap" in (old.kind, new.kind):
            self._pair_kinds(old, new, line)
        elif old.kind != new.kind:
            raise _mismatch(line, f"`{old_text}` is a {old.kind}, `{new_text}` a {new.kind}")
        elif old.kind == "type":
            self._pair_types(old, new, line)
        elif old.kind == "member":
            self._pair_members(old, new, line)
        else:
            table = self.variables if old.kind == "variable" else self.functions
            if table.get(old.row, new.row) != new.row or new.row in table.values():
                raise _conflict(line, f"`{old_text}` or `{new_text}` is paired already")
            table[old.row] = new.row

    def _pair_types(self, old: Name, new: Name, line: Line) -> None:
        if self.old.kind_of(old.row) != self.new.kind_of(new.row):
            kinds = self.old.kind_of(old.row), self.new.kind_of(new.row)
            raise _mismatch(line, f"`{old.text}` is a {kinds[0]}, `{new.text}` a {kinds[1]}")
        if self.renames.get(old.text, new.text) != new.text:
            raise _conflict(line, f"`{old.text}` is paired with `{self.renames[old.text]}` already")
        self.renames[old.text] = new.text

    def _pair_members(self, old: Name, new: Name, line: Line) -> None:
        assert old.member is not None and new.member is not None
        known = self.members[old.row]
        if known.get(old.member.name, new.member.name) != new.member.name:
            raise _conflict(line, f"`{old.text}` is paired with `{known[old.member.name]}` already")
        known[old.member.name] = new.member.name

    def _pair_kinds(self, old: Name, new: Name, line: Line) -> None:
        possible = {("local", "variable"), ("variable", "heap"), ("heap", "variable")}
        if (old.kind, new.kind) not in possible:
            raise _mismatch(line, f"a {old.kind} cannot become a {new.kind}")
        self.kinds.append(KindPair(old, new, line))

    def _pair_of_transform(self, handler: Handler[..., Any]) -> None:
        """``from_`` with another type name says that the types are one."""
        if not handler.source:
            return
        new, old = (
            self.new.resolve(handler.target, handler.line),
            self.old.resolve(handler.source, handler.line),
        )
        owners = [name.text.partition(".")[0] for name in (old, new)]
        if new.kind in ("type", "member") and old.kind == new.kind and owners[0] != owners[1]:
            if self.renames.get(owners[0], owners[1]) != owners[1]:
                raise _conflict(
                    handler.line, f"`{owners[0]}` is paired with `{self.renames[owners[0]]}` already"
                )
            self.renames[owners[0]] = owners[1]

    # Handlers -----------------------------------------------------------------------------------------------

    def _handler(self, handler: Handler[..., Any]) -> None:
        new_only = handler.kind in ("transform", "initialize")
        name = self.new.resolve(handler.target, handler.line) if new_only else self._of_either(handler)
        if name.kind == "variable" and new_only:
            self._of_variable(handler, name)
        elif name.kind == "member":
            self._of_member(handler, name)
        elif name.kind == "type" and handler.kind == "transform":
            self._of_type(handler, name)
        else:
            raise _mismatch(handler.line, f"@{handler.kind} cannot be for `{handler.target}`, a {name.kind}")

    def _of_either(self, handler: Handler[..., Any]) -> Name:
        """Resolvers name a member of the old version; the new one's must have the name it is paired with."""
        old = self.old.resolve(handler.target, handler.line)
        if old.kind != "member" or old.member is None:
            raise _mismatch(handler.line, f"@{handler.kind} is for a member, not for `{handler.target}`")
        owner, _, path = self._new_text(old.text.partition(".")[0]), ".", old.text.partition(".")[2]
        renamed = self.members.get(old.row, {}).get(old.member.name, old.member.name)
        inner = ".".join([*path.split(".")[:-1], renamed])
        return self.new.resolve(f"{owner}.{inner}", handler.line)

    def _new_text(self, old_text: str) -> str:
        return self.renames.get(old_text, old_text)

    def _old_text(self, new_text: str) -> str:
        back = {new: old for old, new in self.renames.items()}
        return back.get(new_text, new_text)

    def _claim(self, key: Any, handler: Handler[..., Any]) -> None:
        other = self.written.get(key)
        if other is not None:
            raise _conflict(handler.line, f"`{handler.target}` is handled at {other.line} already")
        self.written[key] = handler

    def _of_variable(self, handler: Handler[..., Any], name: Name) -> None:
        self._claim(("variable", name.row), handler)
        old: int | None = None
        if handler.kind == "transform":
            source = handler.source or self._old_variable(name)
            found = self.old.resolve(source, handler.line)
            if found.kind != "variable":
                raise _mismatch(handler.line, f"`{source}` is a {found.kind}, `{handler.target}` a variable")
            old = found.row
        self.of_variables.append(VariableTask(handler, old, name.row))

    def _old_variable(self, name: Name) -> str:
        for old, new in self.variables.items():
            if new == name.row:
                return next(pair.old for pair in self.registry.pairs if self._is_variable(pair.old, old))
        return name.text

    def _is_variable(self, text: str, row: int) -> bool:
        found = self.old.find(text, Line("", 0))
        return found is not None and found.kind == "variable" and found.row == row

    def _of_type(self, handler: Handler[..., Any], name: Name) -> None:
        self._claim(("type", name.row), handler)
        old = self.old.resolve(handler.source or self._old_text(name.text), handler.line)
        if old.kind != "type" or self.old.types.kind(old.row) != self.new.types.kind(name.row):
            raise _mismatch(handler.line, f"`{old.text}` and `{name.text}` are not of one kind")
        if self.new.types.kind(name.row) not in (*RECORDS, TypeKind.ENUM):
            raise _mismatch(
                handler.line, f"`{name.text}` is no struct, union or enum: handle the members instead"
            )
        self.whole.add(name.row)
        self.types.append(TypeTask(handler, old.row, name.row))

    def _of_member(self, handler: Handler[..., Any], name: Name) -> None:
        assert name.member is not None
        self._claim(("member", name.row, name.member.name), handler)
        owner = self._old_text(name.text.rpartition(".")[0])
        old_member: Member | None = None
        if handler.kind == "initialize":
            old = self.old.resolve(owner, handler.line)
        else:
            back = {v: k for k, v in self.members.get(self._row(owner), {}).items()}
            default = f"{owner}.{back.get(name.member.name, name.member.name)}"
            old = self.old.resolve(handler.source or default, handler.line)
            if old.kind != "member" or old.member is None:
                raise _mismatch(handler.line, f"`{old.text}` is no member")
            old_member = old.member
            self.seen[old.row].add(old_member.name)
        row = old.row
        if old.kind == "member" and old.member is not None and handler.kind == "initialize":
            row = self.old.types.strip(old.member.type)  # a member of an anonymous inner struct
        self.owned[name.row].add(name.member.name)
        if handler.kind == "resolve_union":
            self._answer(name.row, name.member)
        self.types.append(TypeTask(handler, row, name.row, old_member, name.member))

    def _answer(self, row: int, member: Member) -> None:
        """A union without a name has no problem of its own any more."""
        for entry in Layout(self.new.version).entries(row):
            if member.name in (entry.name, *(leaf.name for leaf in entry.leaves)):
                union = self.new.types.strip(entry.type)
                if self.new.types.kind(union) is TypeKind.UNION and not self.new.version.types["name"][union]:
                    self.answered.add(union)

    def _row(self, text: str) -> int:
        found = self.old.find(text, Line("", 0))
        return -1 if found is None else found.row


def _mismatch(line: Line, text: str) -> RefusedError:
    return RefusedError("handler-mismatch", f"{line}: {text}", "see docs/handlers.md for what each is for")


def _conflict(line: Line, text: str) -> RefusedError:
    return RefusedError("handler-conflict", f"{line}: {text}", "keep one of the two")
