"""Expressions of ``instar inspect``: ``server.clients[3]->name``, ``*head``, ``cache.c:table[7]``."""

from __future__ import annotations

import difflib
import re

from instar.errors import RefusedError, UsageError
from instar.metadata.version import Version
from instar.state.capture import Subject
from instar.state.paths import variable_name
from instar.state.values import Reader, Value

_TOKEN = re.compile(r"\s*(?:(->|\.|\[|\]|\*|\(|\))|(0x[0-9a-fA-F]+|\d+)|([A-Za-z_][\w]*))")
_SHOWN = 8
_NAME = re.compile(r"\s*(?:(?P<scope>[\w./+-]+):)?(?P<name>[A-Za-z_]\w*)")


def evaluate(subject: Subject, expression: str, memory: Reader | None = None) -> Value:
    """The value that an expression names.

    Raises:
        UsageError: "bad-expression".
        RefusedError: "no-such-variable", "ambiguous-name", "no-such-member", "null-pointer", ...
    """
    parser = _Parser(subject, expression, memory or subject.memory)
    value = parser.unary()
    parser.expect_end()
    return value


class _Parser:
    """Recursive descent over the text; every step is a typed read."""

    def __init__(self, subject: Subject, text: str, memory: Reader) -> None:
        self._subject, self._text, self._memory = subject, text, memory
        self._at = 0

    def _peek(self) -> str:
        match = _TOKEN.match(self._text, self._at)
        return match.group(match.lastindex or 0) if match else ""

    def _take(self) -> str:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self._error("something else was expected")
        self._at = match.end()
        return match.group(match.lastindex or 0)

    def _error(self, what: str) -> UsageError:
        return UsageError(
            "bad-expression",
            f"{self._text!r}: {what} at character {self._at + 1}",
            "write it as in C: server.clients[3]->name, *head, file.c:variable",
        )

    def expect_end(self) -> None:
        """Nothing may follow."""
        if self._text[self._at :].strip():
            raise self._error("the expression should end")

    def unary(self) -> Value:
        """``*`` binds weaker than the postfix operators, as in C."""
        if self._peek() == "*":
            self._take()
            return self.unary().dereference()
        return self._postfix()

    def _postfix(self) -> Value:
        value = self._primary()
        while True:
            token = self._peek()
            if token == ".":
                self._take()
                value = value.member(self._take())
            elif token == "->":
                self._take()
                name = self._take()
                inner = value.dereference()
                value = inner.member(name)
            elif token == "[":
                self._take()
                value = value.element(self._index())
            else:
                return value

    def _index(self) -> int:
        token = self._take()
        if not token[:1].isdigit():
            raise self._error("a number was expected")
        if self._take() != "]":
            raise self._error("']' was expected")
        return int(token, 0)

    def _primary(self) -> Value:
        if self._peek() == "(":
            self._take()
            value = self.unary()
            if self._take() != ")":
                raise self._error("')' was expected")
            return value
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise self._error("a variable was expected")
        self._at = match.end()
        return self._variable(match["scope"], match["name"])

    def _variable(self, scope: str | None, name: str) -> Value:
        version = self._subject.version
        rows = [row for row in version.find_variables(name) if _matches(version, row, scope)]
        if not rows:
            raise _unknown(version, name)
        if len(rows) > 1:
            places = sorted({f"{_unit(version, row)}:{name}" for row in rows})
            raise RefusedError(
                "ambiguous-name", f"{name} names {len(rows)} variables", "say " + " or ".join(places)
            )
        variable = version.variables[rows[0]]
        address = self._subject.load_bias + int(variable["address"])
        if variable["tls"]:
            address = self._tls(int(variable["address"]), name)
        return Value(version, self._memory, int(variable["type"]), address, variable_name(version, rows[0]))

    def _tls(self, offset: int, name: str) -> int:
        tls, pointer = self._subject.version.elf.tls, self._subject.thread_pointer
        if tls is None or pointer is None:
            raise RefusedError("no-thread", f"{name} is thread-local", "stop the thread first")
        align = max(tls.align, 1)
        return pointer - (tls.size + align - 1) // align * align + offset


def _unit(version: Version, row: int) -> str:
    variable = version.variables[row]
    if variable["scope"]:
        return version.text(int(variable["scope"]))
    return version.text(int(version.units[variable["unit"]]["name"])).rpartition("/")[2]


def _matches(version: Version, row: int, scope: str | None) -> bool:
    if scope is None:
        return True
    unit = version.text(int(version.units[version.variables[row]["unit"]]["name"]))
    return scope == _unit(version, row) or unit == scope or unit.endswith("/" + scope)


def _unknown(version: Version, name: str) -> RefusedError:
    names = {version.text(int(offset)) for offset in version.variables["name"]}
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else _what_there_is(names)
    return RefusedError("no-such-variable", f"the program has no static variable {name}", hint)


def _what_there_is(names: set[str]) -> str:
    shown = sorted(names - {""})
    if not shown:
        return "it has none"
    more = len(shown) - _SHOWN
    return f"it has {', '.join(shown[:_SHOWN])}" + (f" and {more} more" if more > 0 else "")
