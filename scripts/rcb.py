"""Lines of code by component, trusted and not: the reliable computing base (`make rcb`).

Trusted is what the guard's process loads of ours: the import closure of its entry module. A line counts when
it has code on it: blanks, comments and docstrings do not. Exit status 1 when the trusted part is too large.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
ENTRY = "instar.guard.__main__"
LIMIT = 800
_NO_CODE = (
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
)  # fmt: skip
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)


def count_python(text: str) -> int:
    """Lines with code of a Python module."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            lines.difference_update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)


def count_c(text: str) -> int:
    """Lines with code of a C or assembler file."""
    return sum(1 for line in _C_COMMENT.sub("", text).splitlines() if line.strip())


def module_path(name: str) -> Path | None:
    """The file of a module of ours; None for others."""
    base = SOURCE.joinpath(*name.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.exists():
            return path
    return None


def imported(path: Path) -> Iterator[str]:
    """Every module of ours that a module imports, anywhere in it but under TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def closure(entry: str) -> set[Path]:
    """The files that importing a module loads, packages on the way included."""
    found: set[Path] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        parts = name.split(".")
        if parts[0] != "instar":
            continue
        for end in range(1, len(parts) + 1):
            path = module_path(".".join(parts[:end]))
            if path is not None and path not in found:
                found.add(path)
                waiting += imported(path)
    return found


def component(path: Path) -> str:
    """The layer of a Python file, or the directory of a native one."""
    if path.is_relative_to(SOURCE):
        parts = path.relative_to(SOURCE / "instar").parts
        return parts[0] if len(parts) > 1 else "instar"
    return "native/" + path.relative_to(ROOT / "native").parts[0]


def measure() -> tuple[dict[str, list[int]], dict[Path, int]]:
    """Component -> [trusted, other] lines; trusted file -> lines."""
    trusted = closure(ENTRY)
    table: dict[str, list[int]] = {}
    files: dict[Path, int] = {}
    for path in sorted((SOURCE / "instar").rglob("*.py")):
        count = count_python(path.read_text())
        row = table.setdefault(component(path), [0, 0])
        row[path not in trusted] += count
        if path in trusted:
            files[path] = count
    for path in sorted((ROOT / "native").rglob("*.[chS]")):
        table.setdefault(component(path), [0, 0])[1] += count_c(path.read_text())
    return table, files


def main() -> int:
    """Print both tables."""
    table, files = measure()
    print(f"{'component':<18}{'trusted':>9}{'other':>9}")
    for name, (trusted, other) in sorted(table.items(), key=lambda item: (-item[1][0], item[0])):
        print(f"{name:<18}{trusted or '':>9}{other or '':>9}")
    total, rest = (sum(row[side] for row in table.values()) for side in (0, 1))
    print(f"{'total':<18}{total:>9}{rest:>9}\n")
    for path, count in sorted(files.items(), key=lambda item: -item[1]):
        print(f"{path.relative_to(SOURCE)!s:<38}{count:>5}")
    print(f"\ntrusted: {total} of {total + rest} lines; at most {LIMIT}")
    return 0 if total <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
