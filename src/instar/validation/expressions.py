"""Evaluates invariants and filters: Python's syntax over a program's typed state, and nothing else.

An expression is parsed with ``ast`` and walked by hand: names are static variables and enumerators, ``.`` and
``->`` are members (pointers are followed), ``[n]`` elements, and there are a few functions. Nothing leads to
objects of Python, nothing else can be called, and every step counts against a bound.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from instar.errors import RefusedError, UsageError
from instar.metadata.model import TypeKind
from instar.metadata.version import Version
from instar.state.capture import Subject
from instar.state.expression import evaluate
from instar.state.values import Reader, Value
from instar.validation.chains import walk_list

STEPS = 500_000
_TEXT = 1 << 16
_BITS = 4096

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS = ("abs", "all", "any", "len", "list", "max", "min", "static", "sum")
_ARROW = re.compile(r"'[^']*'|\"[^\"]*\"|->")


class Expression:
    """One expression, parsed and found to use only what is allowed.

    Raises:
        UsageError: "bad-expression".
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            python = _ARROW.sub(lambda m: "." if m[0] == "->" else m[0], text)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)  # "7and x": it is judged by what it means
                self._tree = ast.parse(python.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise _bad(text, "is not an expression in Python's syntax") from error
        for node in ast.walk(self._tree):
            if not isinstance(node, _ALLOWED):
                raise _bad(text, f"has {type(node).__name__.lower()}, which is not allowed here")

    def unknown(self, version: Version) -> list[str]:
        """Names that a version has neither as static variable nor as enumerator."""
        own = {loop.target.id for loop in _loops(self._tree) if isinstance(loop.target, ast.Name)}
        functions = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        names = {
            node.id
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Name) and id(node) not in functions
        }
        enumerators = {version.text(int(offset)) for offset in version.enumerators["name"]}
        known = own | enumerators | {"NULL", "None"}
        return sorted(name for name in names - known if not version.find_variables(name))

    def holds(self, subject: Subject, memory: Reader) -> bool:
        """Whether it is true of a process's state.

        Raises:
            UsageError: "bad-expression".
            RefusedError: "no-such-variable", "null-pointer", "list-cycle", "too-many-steps" and so on.
        """
        return bool(self.value(subject, memory))

    def value(self, subject: Subject, memory: Reader) -> Any:
        """Its value: a number, a text, a list of them."""
        try:
            return _plain(_Walk(self.text, subject, memory).visit(self._tree, {}))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise _bad(self.text, f"cannot be computed: {error}") from error
        except RecursionError as error:
            raise _bad(self.text, "is nested too deeply") from error

    def sides(self, subject: Subject, memory: Reader) -> str:
        """The values of both sides of a comparison, for messages: ``3 == 4``."""
        if not isinstance(self._tree, ast.Compare) or len(self._tree.ops) != 1:
            return str(self.value(subject, memory))
        walk = _Walk(self.text, subject, memory)
        nodes = self._tree.left, self._tree.comparators[0]
        left, right = (_shown(walk.visit(node, {})) for node in nodes)
        sign = ast.unparse(ast.Compare(ast.Name("a"), self._tree.ops, [ast.Name("b")]))[1:-1].strip()
        return f"{left} {sign} {right}"


_ALLOWED = (
    ast.expr_context,
    ast.boolop,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.comprehension,
    ast.BoolOp,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.Call,
    ast.Constant,
    ast.Attribute,
    ast.Subscript,
    ast.Name,
    ast.IfExp,
    ast.GeneratorExp,
    ast.ListComp,
    ast.List,
    ast.Tuple,
)


class _Walk:
    """One evaluation."""

    def __init__(self, text: str, subject: Subject, memory: Reader) -> None:
        self._text, self._subject, self._memory = text, subject, memory
        self._left = STEPS

    def step(self, count: int = 1) -> None:
        """Count work; raises when there is too much of it."""
        self._left -= count
        if self._left < 0:
            raise RefusedError(
                "too-many-steps",
                f"{self._text!r} takes more than {STEPS:,} steps",
                "look at less of the state",
            )

    def visit(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        """The value of a node: a ``Value`` of the program, or plain data."""
        self.step()
        method: Callable[[Any, Mapping[str, Any]], Any] = getattr(self, f"_{type(node).__name__.lower()}")
        return method(node, names)

    def _plain(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        return _plain(self.visit(node, names))

    def _constant(self, node: ast.Constant, names: Mapping[str, Any]) -> Any:
        if not isinstance(node.value, int | float | str | None):
            raise _bad(self._text, f"{node.value!r} is neither number nor text")
        return node.value

    def _name(self, node: ast.Name, names: Mapping[str, Any]) -> Any:
        if node.id in names:
            return names[node.id]
        version = self._subject.version
        if not version.find_variables(node.id):
            if node.id in ("NULL", "None"):
                return 0
            for row in version.enumerators:
                if version.text(int(row["name"])) == node.id:
                    return int(row["value"])
        return evaluate(self._subject, node.id, self._memory)

    def _attribute(self, node: ast.Attribute, names: Mapping[str, Any]) -> Any:
        base = self.visit(node.value, names)
        if not isinstance(base, Value):
            raise _bad(self._text, f"{node.attr} is asked of something that is no object of the program")
        return (base.dereference() if base.kind is TypeKind.POINTER else base).member(node.attr)

    def _subscript(self, node: ast.Subscript, names: Mapping[str, Any]) -> Any:
        base, index = self.visit(node.value, names), self._plain(node.slice, names)
        if not isinstance(index, int):
            raise _bad(self._text, "an index is a whole number")
        if isinstance(base, Value):
            return base.element(index)
        if not isinstance(base, list) or not -len(base) <= index < len(base):
            raise _bad(self._text, f"there is no element {index}")
        return base[index]

    def _boolop(self, node: ast.BoolOp, names: Mapping[str, Any]) -> Any:
        value: Any = None
        for part in node.values:
            value = self._plain(part, names)
            if bool(value) != isinstance(node.op, ast.And):
                break
        return value

    def _binop(self, node: ast.BinOp, names: Mapping[str, Any]) -> Any:
        left, right = self._plain(node.left, names), self._plain(node.right, names)
        function = _BINARY.get(type(node.op))
        if function is None:
            raise _bad(self._text, "has an operator that is not allowed here")
        if not all(isinstance(side, int | float) for side in (left, right)):
            raise _bad(self._text, "only numbers are added, multiplied and so on")
        if isinstance(node.op, ast.LShift) and not 0 <= right <= _BITS:
            raise _bad(self._text, f"shifts by {right}")
        result = function(left, right)
        if isinstance(result, int) and result.bit_length() > _BITS:
            raise _bad(self._text, "has a number that is too large")
        return result

    def _unaryop(self, node: ast.UnaryOp, names: Mapping[str, Any]) -> Any:
        return _UNARY[type(node.op)](self._plain(node.operand, names))

    def _compare(self, node: ast.Compare, names: Mapping[str, Any]) -> Any:
        left = self._plain(node.left, names)
        for sign, other in zip(node.ops, node.comparators, strict=True):
            right = self._plain(other, names)
            if isinstance(sign, ast.In | ast.NotIn):
                if not isinstance(right, list | str):
                    raise _bad(self._text, "`in` wants a list or a text")
                self.step(len(right))
                holds = (left in right) == isinstance(sign, ast.In)
            elif type(sign) in _COMPARE:
                holds = bool(_COMPARE[type(sign)](left, right))
            else:
                raise _bad(self._text, "`is` has no meaning here")
            if not holds:
                return False
            left = right
        return True

    def _ifexp(self, node: ast.IfExp, names: Mapping[str, Any]) -> Any:
        return self.visit(node.body if self._plain(node.test, names) else node.orelse, names)

    def _list(self, node: ast.List, names: Mapping[str, Any]) -> Any:
        return [self.visit(part, names) for part in node.elts]

    def _tuple(self, node: ast.Tuple, names: Mapping[str, Any]) -> Any:
        return [self.visit(part, names) for part in node.elts]

    def _listcomp(self, node: ast.ListComp, names: Mapping[str, Any]) -> Any:
        return list(self._produce(node, names))

    def _generatorexp(self, node: ast.GeneratorExp, names: Mapping[str, Any]) -> Any:
        return self._produce(node, names)

    def _produce(self, node: ast.ListComp | ast.GeneratorExp, names: Mapping[str, Any]) -> Iterator[Any]:
        if len(node.generators) != 1 or not isinstance(node.generators[0].target, ast.Name):
            raise _bad(self._text, "one `for NAME in ...` is allowed")
        loop = node.generators[0]
        for item in self.items(self.visit(loop.iter, names)):
            inner = {**names, node.generators[0].target.id: item}
            if all(self._plain(test, inner) for test in loop.ifs):
                yield self.visit(node.elt, inner)

    def _call(self, node: ast.Call, names: Mapping[str, Any]) -> Any:
        if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS or node.keywords:
            raise _bad(self._text, f"the functions are {', '.join(_FUNCTIONS)}")
        arguments = [self.visit(argument, names) for argument in node.args]
        if not 1 <= len(arguments) <= (2 if node.func.id == "list" else 1):
            raise _bad(self._text, f"{node.func.id} takes one argument")
        return self._apply(node.func.id, arguments)

    def _apply(self, name: str, arguments: Sequence[Any]) -> Any:
        first = arguments[0]
        if name == "static":
            return evaluate(self._subject, str(first), self._memory)
        if name == "list":
            return list(self.items(first, str(arguments[1]) if len(arguments) > 1 else ""))
        if name == "len":
            return self._length(first)
        if name == "abs":
            return abs(_plain(first))
        values = [_plain(item) for item in self.items(first)]
        functions: Mapping[str, Callable[[list[Any]], Any]] = {
            "sum": sum, "all": all, "any": any, "min": min, "max": max,
        }  # fmt: skip
        return functions[name](values)

    def _length(self, value: Any) -> int:
        if isinstance(value, list):
            return len(value)
        if isinstance(value, Value) and value.kind is TypeKind.ARRAY and not value.is_text():
            return int(value.version.types[value.stripped]["elements"])
        plain = _plain(value)
        if isinstance(plain, str | list):
            return len(plain)
        return sum(1 for _ in self.items(value))

    def items(self, value: Any, link: str = "") -> Iterator[Any]:
        """The elements of an array, the objects of a linked list, or those of a list made before."""
        if isinstance(value, Value):
            found = self._elements(value) if value.kind is TypeKind.ARRAY else walk_list(value, link)
        elif isinstance(value, list | Iterator):
            found = iter(value)
        else:
            raise _bad(self._text, "an array or a linked list was expected")
        for item in found:
            self.step()
            yield item

    def _elements(self, value: Value) -> Iterator[Value]:
        return (value.element(i) for i in range(int(value.version.types[value.stripped]["elements"])))


def _loops(tree: ast.expr) -> Iterator[ast.comprehension]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.comprehension))


def _plain(value: Any) -> Any:
    """A number or a text in place of an object of the program."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, Value):
        return value
    if value.is_text():
        return value.string(_TEXT)
    if value.kind is TypeKind.POINTER:
        return value.pointer()
    if value.kind in (TypeKind.INTEGER, TypeKind.ENUM, TypeKind.FLOAT):
        return value.scalar()
    raise TypeError(f"{value.path} is a {value.type_name}, not a number")


def _shown(value: Any) -> str:
    plain = _plain(value)
    return repr(plain) if isinstance(plain, str | list) else str(plain)


def _bad(text: str, what: str) -> UsageError:
    return UsageError("bad-expression", f"{text!r} {what}", "see docs/validation.md for what may be written")
