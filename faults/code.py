"""Faults in the Python code of the forward transfer: one node of a function is changed.

Any function of the modules is chosen: what an update does not run has no effect, and is counted so.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

from faults.injection import Injection

PACKAGES = ("instar.transfer",)
MODULES = ("instar.pairing.compiler", "instar.pairing.mapping", "instar.update.apply", "instar.update.carry")
#: What only words a message or a figure changes no state.
_NOT = ("describe", "_stack_warnings", "_count", "__repr__", "paths")


def modules(wanted: Sequence[str] = (*MODULES, *PACKAGES)) -> list[ModuleType]:
    """These, those of the packages among them in their place, sorted."""
    names: list[str] = []
    for name in wanted:
        path = getattr(importlib.import_module(name), "__path__", None)
        inside = [f"{name}.{entry.name}" for entry in pkgutil.iter_modules(path)] if path else [name]
        names += inside
    return [importlib.import_module(name) for name in sorted(names)]


def functions(wanted: Sequence[str] = (*MODULES, *PACKAGES)) -> list[FunctionType]:
    """Functions and methods of ``modules``, without closures (their code cannot be exchanged)."""
    found: dict[str, FunctionType] = {}
    for module in modules(wanted):
        for value in vars(module).values():
            for member in vars(value).values() if inspect.isclass(value) else (value,):
                for wrapper in ("fget", "func", "__func__", "__wrapped__"):
                    member = getattr(member, wrapper, member)
                own = isinstance(member, FunctionType) and member.__module__ == module.__name__
                if own and not member.__code__.co_freevars and member.__name__ not in _NOT:
                    found[f"{module.__name__}.{member.__qualname__}"] = member
    return [found[name] for name in sorted(found)]


def inject(injection: Injection) -> None:
    """Change one function of the chosen ones in place."""
    wanted = functions()
    injection.random.shuffle(wanted)
    for function in wanted:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, SyntaxError):
            continue
        places = list(_CHANGES[injection.kind](tree.body[0]))
        if not places:
            continue
        line, text, change = injection.random.choice(places)
        change()
        exchange(function, tree)
        line += function.__code__.co_firstlineno - 1
        injection.note(f"code {function.__module__}.{function.__qualname__}:{line}: {text}")
        return
    raise LookupError(f"no place for {injection.kind}")


def exchange(function: FunctionType, tree: ast.Module) -> None:
    """Have a function do what a changed tree of its source says."""
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    ast.fix_missing_locations(tree)
    source = compile(tree, function.__code__.co_filename, "exec", flags=_future_flags(function))
    inner = next(c for c in source.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__)
    function.__code__ = inner


def _future_flags(function: FunctionType) -> int:
    return function.__code__.co_flags & 0x1000000  # from __future__ import annotations


Place = tuple[int, str, Callable[[], None]]


def _statements(tree: ast.AST) -> Iterator[tuple[list[ast.stmt], int]]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                yield from ((block, index) for index in range(len(block)))


def _branch_flipped(tree: ast.AST) -> Iterator[Place]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp):
            yield node.lineno, f"not ({ast.unparse(node.test)})", partial(_negate, node)


def _negate(node: ast.If | ast.IfExp) -> None:
    node.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)


def _loops(tree: ast.AST) -> Iterator[ast.For | ast.While]:
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.While):
            yield node


def _loop_cut(tree: ast.AST) -> Iterator[Place]:
    for node in _loops(tree):
        yield node.lineno, "the loop ends after one turn", partial(node.body.append, ast.Break())


def _loop_stuck(tree: ast.AST) -> Iterator[Place]:
    for node in _loops(tree):
        yield node.lineno, "the loop never ends", partial(_never_end, node)


def _never_end(node: ast.For | ast.While) -> None:
    """An inner loop around the body: no ``break`` of the loop itself gets it out."""
    node.body = [ast.While(ast.Constant(True), node.body, [])]


def _missing(tree: ast.AST) -> Iterator[Place]:
    """A local that keeps what it had, or has nothing."""
    for block, index in _statements(tree):
        node = block[index]
        if isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) for t in node.targets):
            yield node.lineno, f"without {ast.unparse(node)[:60]}", partial(_drop, block, index)


def _lost_write(tree: ast.AST) -> Iterator[Place]:
    """A store into a column, a member or a list that does not happen."""
    for block, index in _statements(tree):
        node = block[index]
        stores = isinstance(node, ast.Assign | ast.AugAssign) and not isinstance(
            node.targets[0] if isinstance(node, ast.Assign) else node.target, ast.Name
        )
        appends = isinstance(node, ast.AugAssign) or (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Attribute)
            and node.value.func.attr in ("append", "extend", "add", "update", "write")
        )
        if stores or appends:
            yield node.lineno, f"without {ast.unparse(node)[:60]}", partial(_drop, block, index)


def _doubled_write(tree: ast.AST) -> Iterator[Place]:
    for block, index in _statements(tree):
        node = block[index]
        if isinstance(node, ast.AugAssign | ast.Expr) and not (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.Yield | ast.YieldFrom)
        ):
            yield node.lineno, f"twice {ast.unparse(node)[:60]}", partial(block.insert, index, node)


def _drop(block: list[ast.stmt], index: int) -> None:
    block[index] = ast.copy_location(ast.Pass(), block[index])


def _off_by_one(tree: ast.AST) -> Iterator[Place]:
    others = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in others:
            change = others[type(node.ops[0])]
            yield (
                node.lineno,
                f"{change.__name__} in {ast.unparse(node)[:60]}",
                partial(_compare, node, change),
            )
        elif isinstance(node, ast.Constant) and type(node.value) is int and 0 <= node.value <= 64:
            yield (
                node.lineno,
                f"{node.value} became {node.value + 1}",
                partial(setattr, node, "value", node.value + 1),
            )


def _compare(node: ast.Compare, change: Any) -> None:
    node.ops[0] = change()


def _wrong_offset(tree: ast.AST) -> Iterator[Place]:
    """A sum that has eight too much, or a difference for a sum."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            if isinstance(node.left, ast.Constant | ast.List | ast.JoinedStr):
                continue
            yield node.lineno, f"8 more: {ast.unparse(node)[:60]}", partial(_more, node)


def _more(node: ast.BinOp) -> None:
    node.left = ast.copy_location(ast.BinOp(node.left, ast.Add(), ast.Constant(8)), node.left)


_CHANGES: dict[str, Callable[[ast.AST], Iterator[Place]]] = {
    "branch flipped": _branch_flipped,
    "loop stuck": _loop_stuck,
    "loop cut short": _loop_cut,
    "missing initialisation": _missing,
    "wrong offset": _wrong_offset,
    "off-by-one count": _off_by_one,
    "lost write": _lost_write,
    "doubled write": _doubled_write,
}
KINDS = tuple(_CHANGES)
