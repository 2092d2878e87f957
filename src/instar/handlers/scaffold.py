"""Writes the skeleton of a handler file: a stub for each problem, with the likely answer filled in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from instar.handlers.binding import bind
from instar.handlers.module import run_handlers
from instar.handlers.types import RECORDS, Member, Types
from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.pairing.plan import PairingPlan, plan_pairing
from instar.pairing.problems import Problem

_WIDTH = 44
_ROUNDS = 8
_RENAMED = re.compile(r"`([^`]+)` is gone and `([^`]+)`")


def write_scaffold(plan: PairingPlan) -> tuple[str, int]:
    """(the text of a handler file, how many problems it has stubs for)."""
    writer = _Writer(plan)
    count = len(plan.problems)
    for _ in range(_ROUNDS):  # a type that is paired may explain other problems, or bring up new ones
        renames = [problem for problem in plan.problems if problem.code == "likely-rename"]
        for problem in renames:
            writer.add(problem)
        binding = bind(run_handlers(writer.pairs(), "scaffold"), plan.old, plan.new)
        plan = plan_pairing(plan.old, plan.new, settled=binding.settled)
        writer.use(plan)
        if not any(problem.code == "likely-rename" for problem in plan.problems):
            break
    for problem in plan.problems:
        writer.add(problem)
    writer.add_narrowings()
    return writer.text(), count


class _Writer:
    def __init__(self, plan: PairingPlan) -> None:
        self._plan = plan
        self._old, self._new = Types(plan.old, "old"), Types(plan.new, "new")
        self._pairs: list[str] = []
        self._optional: list[str] = []
        self._stubs: list[str] = []
        self._imports: set[str] = set()
        self._seen: set[str] = set()

    def text(self) -> str:
        """The file."""
        names = f"{self._plan.old.path.name} -> {self._plan.new.path.name}"
        lines = [f'"""Handlers for {names} (docs/handlers.md)."""', ""]
        if self._imports:
            lines += [f"from instar.ext import {', '.join(sorted(self._imports, key=str.lower))}", ""]
        else:
            lines += ["# Every difference between the two versions is automatic: nothing is needed here."]
        body = "\n".join([*lines, *self._pairs])
        if self._stubs:
            body = body.rstrip("\n") + "\n\n\n" + "\n\n\n".join(self._stubs)
        if self._optional:
            body = body.rstrip("\n") + "\n\n" + "\n".join(self._optional)
        return body.rstrip("\n") + "\n"

    def pairs(self) -> str:
        """The file's pairs alone."""
        return "from instar.ext import pair\n" + "\n".join(self._pairs) + "\n"

    def use(self, plan: PairingPlan) -> None:
        """Go on with a plan in which the pairs are settled."""
        self._plan = plan

    def add_narrowings(self) -> None:
        """Integers that get narrower are automatic as long as all values fit: a suggestion for when not."""
        pairing = self._plan.types
        for row in range(len(pairing.old)):
            other = pairing.identity.counterpart(row)
            if other is None or pairing.old.kind(row) != TypeKind.STRUCT:
                continue
            for old_entry, new_entry in pairing.compiler.pairs(row, other).pairs:
                rows = self._old.strip(old_entry.type), self._new.strip(new_entry.type)
                if old_entry.bit_size or new_entry.bit_size or old_entry.leaves or not self._narrows(rows):
                    continue
                target = f"{pairing.new_label(other)}.{new_entry.name}"
                if target not in self._seen:
                    self._optional += self._clamp(target, rows)

    def _narrows(self, rows: tuple[int, int]) -> bool:
        if any(types.kind(row) is not TypeKind.INTEGER for types, row in self._both(rows)):
            return False
        (old_low, old_high), (low, high) = (_range(types, row) for types, row in self._both(rows))
        return self._old.size(rows[0]) > self._new.size(rows[1]) and (old_low < low or old_high > high)

    def _both(self, rows: tuple[int, int]) -> tuple[tuple[Types, int], tuple[Types, int]]:
        return (self._old, rows[0]), (self._new, rows[1])

    def _clamp(self, target: str, rows: tuple[int, int]) -> list[str]:
        low, high = _range(self._new, rows[1])
        labels = self._old.label(rows[0]), self._new.label(rows[1])
        return [
            "",
            f"# {target}: {labels[0]} -> {labels[1]}: automatic, refused only if a value does not fit.",
            "# from instar.ext import transform",
            f'# @transform("{target}")',
            f"# def cut_{_identifier(target)}(value):",
            f"#     return min(max(value, {low}), {high})",
            f"# @cut_{_identifier(target)}.check",
            f"# def is_cut_{_identifier(target)}(value, made):",
            f"#     return made == min(max(value, {low}), {high})",
        ]

    def add(self, problem: Problem) -> None:
        """One problem: a line or a stub; each target once."""
        if problem.code == "likely-rename":
            self._rename(problem)
        elif problem.path.startswith("variable "):
            self._variable(problem)
        else:
            self._member(problem)

    # Renames ------------------------------------------------------------------------------------------------

    def _rename(self, problem: Problem) -> None:
        found = _RENAMED.search(problem.cause)
        if found is None:
            self._renamed_type(problem)
            return
        if problem.path.startswith("variable "):
            self._pair(found[1], found[2], problem)
            return
        owner = problem.path.rpartition(".")[0]
        row = self._old_row(owner)
        if row is None:
            self._note(problem)
            return
        other = self._plan.types.counterpart(row)
        new_owner = owner if other is None else self._plan.types.new_label(self._new.strip(other))
        if found[1] in self._old.members(row):
            self._pair(f"{owner}.{found[1]}", f"{new_owner}.{found[2]}", problem)
        else:
            self._pair(found[1], found[2], problem)

    def _renamed_type(self, problem: Problem) -> None:
        row = self._old_row(problem.path)
        heir = self._plan.types.likely_heir(row) if row is not None else None
        if row is None or heir is None:
            self._note(problem)
            return
        self._pair(self._plan.types.label(row), self._plan.types.new_label(heir), problem)

    def _pair(self, old: str, new: str, problem: Problem) -> None:
        line = f'pair("{old}", "{new}")'
        if line not in self._pairs:
            self._imports.add("pair")
            self._pairs += [*_comment(problem), line]

    def _note(self, problem: Problem) -> None:
        self._imports.add("transform")
        note = "\n".join([*_comment(problem), f"#     {problem.remedy}"])
        if note not in self._stubs:
            self._stubs.append(note)

    # Stubs --------------------------------------------------------------------------------------------------

    def _variable(self, problem: Problem) -> None:
        name = re.split(r"[\[{]", problem.path.removeprefix("variable "))[0]
        rows = [self._find_variable(version, name) for version in (self._plan.old, self._plan.new)]
        if None in rows or name in self._seen:
            if name not in self._seen:
                self._note(problem)
            return
        self._seen.add(name)
        self._imports |= {"transform"}
        kinds = [
            version.declare(int(version.variables["type"][row or 0]), name.rpartition(".")[2])
            for version, row in zip((self._plan.old, self._plan.new), rows, strict=True)
        ]
        body = [
            *_comment(problem),
            *_side_by_side([kinds[0] + ";"], [kinds[1] + ";"]),
            f'@transform("{name}")',
            f"def make_{_identifier(name)}(value):",
            f'    raise NotImplementedError("{name}: return the new value")',
            *_check_stub("make", name, "value, made"),
        ]
        self._stubs.append("\n".join(body))

    def _find_variable(self, version: Version, name: str) -> int | None:
        scope, _, plain = name.rpartition(".")
        rows = [
            row
            for row in version.find_variables(plain)
            if version.text(int(version.variables["scope"][row])) == scope
        ]
        return rows[0] if len(rows) == 1 else None

    def _member(self, problem: Problem) -> None:
        owner, _, path = problem.path.partition(".")
        row = self._old_row(owner)
        other = self._plan.types.counterpart(row) if row is not None else None
        if row is None or other is None:
            if not self._nameless(problem):
                self._note(problem)
            return
        new_row = self._new.strip(other)
        new_owner = self._plan.types.new_label(new_row)
        name = re.split(r"[.\[{]", path)[0]
        old_member, new_member = self._old.members(row).get(name), self._new.members(new_row).get(name)
        if new_member is not None and self._new.label(self._new.strip(new_member.type)) in self._seen:
            return  # its type has a stub
        header = self._header(problem, row, new_row)
        if old_member is not None and new_member is not None:
            self._member_stub(f"{new_owner}.{name}", (old_member, new_member), header)
        elif "{" in path and self._is_union(problem):
            leaves = tuple(path.partition("{")[2].rstrip("}").split("|"))
            self._union_stub(f"{owner}.{leaves[0]}", leaves, header)
        else:
            self._type_stub(owner, new_owner, row, header)

    def _header(self, problem: Problem, row: int, new_row: int) -> list[str]:
        shown = self._shown(self._old, row), self._shown(self._new, new_row)
        return [*_comment(problem), *_side_by_side(*shown)]

    def _nameless(self, problem: Problem) -> bool:
        """A union without a name: stubs for the members that have it as their type."""
        pairing = self._plan.types
        found = False
        for row in range(len(pairing.old)):
            other = pairing.identity.counterpart(row)
            if other is None or pairing.old.kind(row) not in RECORDS or not pairing.is_nameable(row):
                continue
            for old_entry, new_entry in pairing.compiler.pairs(row, other).pairs:
                rows = self._old.strip(old_entry.type), self._new.strip(new_entry.type)
                if self._old.kind(rows[0]) is not TypeKind.UNION or pairing.is_nameable(rows[0]):
                    continue
                if problem.cause not in {one.cause for one in pairing.compiler.fragment(*rows).problems}:
                    continue
                name = old_entry.name or old_entry.leaves[0].name
                members = tuple(self._old.members(rows[0]))
                header = self._header(problem, row, other)
                self._union_stub(f"{pairing.label(row)}.{name}", members, header)
                found = True
        return found

    def _is_union(self, problem: Problem) -> bool:
        return "which" in problem.cause and "separate" not in problem.cause

    def _member_stub(self, target: str, pair: tuple[Member, Member], header: list[str]) -> None:
        if target in self._seen:
            return
        self._seen.add(target)
        rows = self._old.strip(pair[0].type), self._new.strip(pair[1].type)
        kinds = self._old.kind(rows[0]), self._new.kind(rows[1])
        if kinds == (TypeKind.UNION, TypeKind.UNION):
            self._seen.discard(target)
            self._union_stub(target, tuple(self._old.members(rows[0])), header)
            return
        self._imports.add("transform")
        lines = [*header, f'@transform("{target}")', f"def make_{_identifier(target)}(value):"]
        lines += [f"    {line}" for line in self._suggestion(target, rows, kinds)]
        lines += _check_stub("make", target, "value, made")
        self._stubs.append("\n".join(lines))

    def _suggestion(
        self, target: str, rows: tuple[int, int], kinds: tuple[TypeKind, TypeKind]
    ) -> Iterator[str]:
        if kinds == (TypeKind.INTEGER, TypeKind.INTEGER):
            low, high = _range(self._new, rows[1])
            yield f"# return min(max(value, {low}), {high})  # cut what does not fit"
        elif kinds == (TypeKind.ENUM, TypeKind.ENUM):
            yield from _enum_table(self._old.enumerators(rows[0]), self._new.enumerators(rows[1]))
        elif TypeKind.POINTER in kinds and TypeKind.INTEGER in kinds:
            yield "# return int(value)  # the number as it is; an address: use @resolve_pointer instead"
        yield f'raise NotImplementedError("{target}: return the new value")'

    def _union_stub(self, target: str, names: Iterable[str], header: list[str]) -> None:
        if target in self._seen:
            return
        self._seen.add(target)
        self._imports |= {"resolve_union", "same"}
        names = tuple(names)
        leaf = target.rpartition(".")[2]
        place = "" if leaf in names else f".{leaf}"
        choices = " or ".join(f'"{name}"' for name in names)
        self._stubs.append(
            "\n".join(
                [
                    *header,
                    f'@resolve_union("{target}")',
                    f"def member_of_{_identifier(target)}(old):",
                    f"    # return {choices}: the member in use",
                    f'    raise NotImplementedError("{target}: which member is in use?")',
                    *_check_stub(
                        "member_of",
                        target,
                        "old, new",
                        f"name = member_of_{_identifier(target)}(old)",
                        f"return same(old{place}[name], new{place}[name])",
                    ),
                ]
            )
        )

    def _type_stub(self, owner: str, new_owner: str, row: int, header: list[str]) -> None:
        if new_owner in self._seen:
            return
        self._seen.add(new_owner)
        self._imports.add("transform")
        source = f', from_="{owner}"' if owner != new_owner else ""
        if self._old.kind(row) is TypeKind.ENUM:
            other = self._new.strip(self._plan.types.counterpart(row) or 0)
            lines = list(_enum_table(self._old.enumerators(row), self._new.enumerators(other)))
            lines.append(f'raise NotImplementedError("{new_owner}: return the new enumerator")')
            body = [f"def make_{_identifier(new_owner)}(value):", *(f"    {line}" for line in lines)]
            body += _check_stub("make", new_owner, "value, made")
        else:
            body = [
                f"def make_{_identifier(new_owner)}(old, new):",
                "    # what has a rule is in `new` already",
                f'    raise NotImplementedError("{new_owner}: store in new")',
                *_check_stub("make", new_owner, "old, new"),
            ]
        self._stubs.append("\n".join([*header, f'@transform("{new_owner}"{source})', *body]))

    # Types --------------------------------------------------------------------------------------------------

    def _old_row(self, label: str) -> int | None:
        row = self._old.find(label)
        return row if row is not None and row >= 0 else None

    def _shown(self, types: Types, row: int) -> list[str]:
        """A type as C would declare it."""
        if types.kind(row) is TypeKind.ENUM:
            return [types.label(row), *(f"    {n} = {v}," for v, n in types.enumerators(row).items())]
        lines = [types.label(row)]
        for member in types.members(row).values():
            declared = types.version.declare(member.type, member.name)
            lines.append(f"    {declared}{f' : {member.bit_size}' if member.bit_size else ''};")
        return lines


def _enum_table(old: dict[int, str], new: dict[int, str]) -> Iterator[str]:
    names = list(new.values())
    yield "# names = {"
    for index, name in enumerate(old.values()):
        heir = name if name in names else names[min(index, len(names) - 1)] if names else "?"
        yield f'#     "{name}": "{heir}",'
    yield "# }"
    yield "# return names[value.name]"


def _check_stub(verb: str, target: str, parameters: str, *likely: str) -> list[str]:
    """What must be true of what a stub makes, with the likely answer as a comment."""
    name = _identifier(target)
    return [
        "",
        "",
        f"@{verb}_{name}.check",
        f"def is_right_{name}({parameters}):",
        f"    # or @{verb}_{name}.backward, which makes the old of the new: `instar rollback` needs it",
        *(f"    # {line}" for line in likely),
        f'    raise NotImplementedError("{target}: return whether the new is right for the old")',
    ]


def _comment(problem: Problem) -> list[str]:
    return [f"# {problem.path}: {problem.cause} [{problem.code}]"]


def _side_by_side(left: list[str], right: list[str]) -> list[str]:
    lines = [f"#   {'old':<{_WIDTH}}new"]
    lines += [f"#   {a:<{_WIDTH}}{b}".rstrip() for a, b in zip_longest(left, right, fillvalue="")]
    return lines


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", re.sub(r"^(struct|union|enum) ", "", name)).strip("_")


def _range(types: Types, row: int) -> tuple[int, int]:
    """Smallest and largest number of an integer type."""
    bits = 8 * types.size(row)
    if types.is_boolean(row):
        return 0, 1
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if types.is_signed(row) else (0, (1 << bits) - 1)
