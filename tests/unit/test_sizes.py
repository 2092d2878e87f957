"""Files and functions are short: past 500 lines there is a second idea inside, past 60 a second job."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE_LINES, FUNCTION_LINES = 500, 60
FOLDERS = ("src", "native", "include", "bench", "examples", "faults", "fuzz", "scripts", "tests")
#: Longer, and why.
LONG_FILES = {
    "examples/hallway/v1/hallway.c": "one server in one file, as readers of the demo know them",
    "examples/hallway/v2/hallway.c": "its next version: the difference is to be seen in one place",
}


def files(*endings: str) -> Iterator[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in endings]
    yield from (path for path in sorted(found) if "tests/programs/" not in str(path) and path.is_file())


def lengths_in_python(text: str) -> Iterator[tuple[str, int]]:
    """(function, lines) of a module, decorators left out."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def lengths_in_c(text: str) -> Iterator[tuple[str, int]]:
    """(head, lines) of what clang-format has put between braces at the start of a line: functions."""
    head, begin = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if line == "{":
            begin = number
        elif line == "}" and begin is not None:
            yield head, number - begin + 1
            begin = None
        elif begin is None and line.strip():
            head = line if not line.startswith(" ") else head


def test_files() -> None:
    sizes = {path: path.read_bytes().count(b"\n") for path in files(".py", ".c", ".h", ".S")}
    long = {str(path.relative_to(ROOT)) for path, size in sizes.items() if size > FILE_LINES}
    assert len(sizes) > 500
    assert long == set(LONG_FILES)


def test_functions() -> None:
    python = ((path, lengths_in_python(path.read_text())) for path in files(".py"))
    c = ((path, lengths_in_c(path.read_text())) for path in (ROOT / "native").rglob("*.[ch]"))
    found = [(path.name, name, size) for path, sizes in itertools.chain(python, c) for name, size in sizes]
    assert len(found) > 5000
    assert not [one for one in found if one[2] > FUNCTION_LINES]


def test_lengths_are_seen() -> None:
    method = "class A:\n    @cached\n    def f(self):\n" + "        x = 1\n" * 60
    assert list(lengths_in_python(method)) == [("f", 61)]
    function = "static int f(int a,\n             int b)\n{\n" + "    a++;\n" * 3 + "}\n"
    assert list(lengths_in_c("struct s {\n    int a;\n};\n" + function)) == [("static int f(int a,", 5)]
