"""Turns every branch of some modules round, one at a time: `python -m faults.sweep MODULE...`.

Where the campaign draws, this counts: first an update without a fault says which branches it comes by, then
there is an update for each of them. What nobody notices is printed, and is a finding.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import shutil
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from faults.code import exchange, functions
from faults.injection import Injection
from faults.outcome import BAD, Result

WATCH = "which are passed"
_SEEN = "_instar_seen"


@dataclass(frozen=True)
class Branch:
    """One condition.

    Attributes:
        name: Of the function, with its module.
        index: Of the condition, in the order of ``conditions``.
        text: For people.
    """

    name: str
    index: int
    text: str

    @property
    def kind(self) -> str:
        """As an injection names it."""
        return f"{self.name}#{self.index}"


@dataclass(frozen=True)
class Place:
    """A condition in a syntax tree: ``change`` puts another expression in its place."""

    test: ast.expr
    change: Callable[[ast.expr], None]


def conditions(tree: ast.AST) -> Iterator[Place]:
    """Of statements, expressions, comprehensions; truth values that are returned; parts of "and" and "or"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp | ast.While):
            yield Place(node.test, lambda new, node=node: setattr(node, "test", new))  # type: ignore[misc]
        elif isinstance(node, ast.comprehension):
            for index, test in enumerate(node.ifs):
                yield Place(test, lambda new, node=node, i=index: node.ifs.__setitem__(i, new))  # type: ignore[misc]
        elif isinstance(node, ast.BoolOp):
            for index, test in enumerate(node.values[:-1]):
                yield Place(test, lambda new, node=node, i=index: node.values.__setitem__(i, new))  # type: ignore[misc]
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Compare):
            yield Place(node.value, lambda new, node=node: setattr(node, "value", new))  # type: ignore[misc]


def branches(modules: Sequence[str]) -> list[tuple[FunctionType, list[Branch]]]:
    """All of them, by function."""
    found = []
    for function in functions(modules):
        if not Path(function.__code__.co_filename).exists():
            continue  # made by a dataclass
        name = f"{function.__module__}.{function.__qualname__}"
        first = function.__code__.co_firstlineno - 1
        mine = [
            Branch(name, index, f"{name}:{first + place.test.lineno}: {ast.unparse(place.test)[:90]}")
            for index, place in enumerate(conditions(parse(function)))
        ]
        if mine:
            found.append((function, mine))
    return found


def parse(function: FunctionType) -> ast.Module:
    """Its syntax tree."""
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def inject(injection: Injection) -> None:
    """Turn the branch round that the kind names, or note which are passed."""
    name, _, index = injection.kind.partition("#")
    if name == WATCH:
        _watch(injection, index.split(","))
        return
    module = name.removeprefix("instar.").split(".")
    function = next(f for f in functions([".".join(["instar", *module[:2]])]) if _name(f) == name)
    tree = parse(function)
    place = list(conditions(tree))[int(index)]
    text = ast.unparse(place.test)
    place.change(ast.copy_location(_negated(place.test), place.test))
    function.__globals__["_instar_not"] = turn_round
    exchange(function, tree)
    injection.note(f"sweep {name}: not ({text})")


def _name(function: FunctionType) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _negated(test: ast.expr) -> ast.expr:
    """Also of arrays of truth values, which know no ``not``."""
    call = ast.Call(ast.Name("_instar_not", ast.Load()), [test], [])
    return ast.fix_missing_locations(ast.copy_location(call, test))


def turn_round(value: Any) -> Any:
    """The opposite of a condition, elementwise where it is an array of truth values."""
    import numpy as np

    if isinstance(value, np.ndarray | np.bool_) and value.dtype == bool:
        return ~value
    return not value


def _watch(injection: Injection, modules: Sequence[str]) -> None:
    seen: set[str] = set()
    for function, mine in branches(modules):
        tree = parse(function)
        for place, branch in zip(list(conditions(tree)), mine, strict=True):

            def note(value: Any, kind: str = branch.kind) -> Any:
                if kind not in seen:
                    seen.add(kind)
                    injection.note(kind)
                return value

            key = f"{_SEEN}_{branch.index}_{abs(hash(branch.name))}"
            function.__globals__[key] = note
            call = ast.Call(ast.Name(key, ast.Load()), [place.test], [])
            place.change(ast.fix_missing_locations(ast.copy_location(call, place.test)))
        exchange(function, tree)


def sweep(program: str, modules: Sequence[str], skip: set[str]) -> Iterator[tuple[Branch, Result]]:
    """An update of a program for each branch that it passes."""
    from faults.campaign import SUBJECTS, Fault, measure_paces
    from faults.runner import Runner

    home = Path(tempfile.mkdtemp(prefix="instar-sweep-"))
    try:
        paces = measure_paces([program], home / "pace")
        with Runner(home / "job", SUBJECTS, paces) as runner:
            watching = Fault(-1, "sweep", f"{WATCH}#{','.join(modules)}", program, "0")
            result = runner.run(watching)
            if result.outcome != "no effect":
                raise RuntimeError(f"without a fault: {result}")
            every = [branch for _, mine in branches(modules) for branch in mine]
            passed = [branch for branch in every if branch.kind in result.done and branch.kind not in skip]
            print(f"{program}: {len(passed)} of {len(every)} branches are passed", flush=True)
            for number, branch in enumerate(passed):
                yield branch, runner.run(Fault(number, "sweep", branch.kind, program, str(number)))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 1 when something went unnoticed."""
    from faults.campaign import SUBJECTS

    parser = argparse.ArgumentParser(prog="faults.sweep", description=__doc__)
    parser.add_argument("module", nargs="+", help="a module, or all of a package")
    parser.add_argument("--program", action="append", choices=sorted(SUBJECTS), help="default: all")
    parser.add_argument("--skip", type=Path, help="a file of branches (one a line) that are left out")
    parser.add_argument("--effects", action="store_true", help="print those without effect, too")
    arguments = parser.parse_args(argv)
    skip = set(arguments.skip.read_text().split()) if arguments.skip else set()
    bad = False
    for program in arguments.program or sorted(SUBJECTS):
        outcomes: Counter[str] = Counter()
        for branch, result in sweep(program, arguments.module, skip):
            outcomes[result.outcome] += 1
            escaped = result.outcome in BAD
            if escaped or (arguments.effects and result.outcome == "no effect"):
                print(f"{result.outcome}: {branch.text} [{branch.kind}] {result.complaints[:1]}", flush=True)
            bad |= escaped
        print(f"{program}: {dict(outcomes.most_common())}", flush=True)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
