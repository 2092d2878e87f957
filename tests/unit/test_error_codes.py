"""docs/errors.md knows every code that the source can raise, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import instar

PACKAGE = Path(instar.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "errors.md"

CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
ROW = re.compile(r"^\| `([a-z0-9-]+)` \|", re.M)
# Every word with a hyphen that is a whole string is taken for a code, so that those in tables are found
# too. These are not codes:
OTHER_WORDS = {
    *("utf-8", "test-version", "thread-self", "ld-linux", "ld-musl", "soft-dirty", "thread-local"),
    *("pre-copy", "pre-check", "rolled-back", "kept-new", "needs-user", "pointer-integer"),
    *("syscall-entry", "syscall-exit", "eventfd-count", "eventfd-semaphore"),
    *("dropped-byte", "handled-byte", "assumed-word", "own-frame-word", "unsettled-frame-word"),
    *("nameless-target", "jump-word", "literal-pointer", "color-scheme", "build-id"),
    *("dumb-init", "docker-init", "s6-supervise"),
}
# These modules say with such words why a place cannot be told; whoever asks turns that into an error.
REASONS = {"process/expression.py", "process/unwind.py", "process/opcodes.py", "state/frames.py"}
# Codes of one word are known by their place: the first argument of an error, a problem or a finding.
CARRIERS = re.compile(r"(\w*Error|Problem)$")
SINGLE_WORDS = re.compile(r"[a-z0-9]+")


def name_of(function: ast.expr) -> str:
    """The last word of what is called; "super().__init__" for the constructor of a base."""
    if isinstance(function, ast.Attribute):
        is_base = function.attr == "__init__" and ast.unparse(function.value) == "super()"
        return "super().__init__" if is_base else function.attr
    return function.id if isinstance(function, ast.Name) else ""


def first_words(tree: ast.AST) -> Iterator[str]:
    """The codes of one word: constants in first place that are followed by a cause and a remedy."""
    for node in ast.walk(tree):
        if not (
            isinstance(node, ast.Call) and len(node.args) >= 3 and isinstance(node.args[0], ast.Constant)
        ):
            continue
        name, first = name_of(node.func), node.args[0].value
        is_carrier = CARRIERS.match(name) or name == "super().__init__"
        if is_carrier and isinstance(first, str) and SINGLE_WORDS.fullmatch(first):
            yield first


def hyphenated(tree: ast.AST) -> Iterator[str]:
    """The words with hyphens that are whole strings, docstrings aside."""
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield from (word for word in [node.value] if "-" in word and CODE.fullmatch(word))


def codes_of(source: str, module: str = "") -> set[str]:
    """The codes in a module's source."""
    tree = ast.parse(source)
    words = set(first_words(tree))
    return words if module in REASONS else words | (set(hyphenated(tree)) - OTHER_WORDS)


def source_codes() -> dict[str, set[str]]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if not module.startswith("testing/"):
            found[module] = codes_of(path.read_text(), module)
    return found


def test_every_code_is_on_the_page() -> None:
    known = set(ROW.findall(PAGE.read_text()))
    missing = {module: codes - known for module, codes in source_codes().items() if codes - known}
    assert not missing, f"describe in docs/errors.md: {missing}"


def test_every_code_on_the_page_exists() -> None:
    existing = set().union(*source_codes().values())
    assert set(ROW.findall(PAGE.read_text())) <= existing


def test_the_page_names_each_code_once_and_in_order() -> None:
    text = PAGE.read_text()
    for section in text.split("\n## "):
        codes = ROW.findall(section)
        assert codes == sorted(codes), section.splitlines()[0]
    assert len(ROW.findall(text)) == len(set(ROW.findall(text)))


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ('raise RefusedError("no-such", f"x", "y")', {"no-such"}),
        ('raise errors.HostError("a-b" if x else "c-d", "x", "y")', {"a-b", "c-d"}),
        ('super().__init__("deadline", "x", "y")', {"deadline"}),
        ('TABLE = {1: ("type-gone", "x y")}', {"type-gone"}),
        ('"""doc-string"""\nx = "utf-8"', set()),
        ('raise ValueError("wrong")', set()),
    ],
)
def test_codes_are_found(source: str, codes: set[str]) -> None:
    assert codes_of(source) == codes


# Codes that no test provokes or names, and why.
UNTESTED: dict[str, str] = {}
TESTS = Path(__file__).parents[1]
STRING = re.compile(r"[\"'\[]([a-z0-9]+(?:-[a-z0-9]+)*)[\"'\]]")


def codes_in_tests() -> set[str]:
    """Words that are whole strings in tests and scenarios, or stand in brackets as in a printed error."""
    own = Path(__file__)
    texts = [
        path.read_text() for path in TESTS.rglob("*.py") if path != own and "__pycache__" not in path.parts
    ]
    texts += [path.read_text() for path in (TESTS / "programs").glob("*/scenario.toml")]
    return {word for text in texts for word in STRING.findall(text)}


def test_every_code_is_named_in_a_test() -> None:
    known, tested = set(ROW.findall(PAGE.read_text())), codes_in_tests()
    assert known - tested == UNTESTED.keys(), "name them in a test, or in UNTESTED with the reason"
    assert all(UNTESTED.values())
