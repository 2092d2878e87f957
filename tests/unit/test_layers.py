"""Imports go down only (docs/internals/layers.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import instar

PACKAGE = Path(instar.__file__).parent

# From the top down; layers in one row do not know each other.
ORDER: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("update",),
    ("patching", "validation"),
    ("control",),
    ("handlers",),
    ("transfer",),
    ("pairing",),
    ("state",),
    ("heap",),
    ("guard",),
    ("process",),
    ("metadata",),
    ("ext", "native"),
    ("errors",),
)
LEVEL = {layer: level for level, row in enumerate((("__main__",), *ORDER)) for layer in row}
# Public fakes: made of the layers below, used by tests only.
TESTING = "testing"


def layer_of(module: str) -> str | None:
    """The layer of a dotted module name; None for what is not of instar and for the bare package."""
    head, _, rest = module.partition(".")
    return rest.partition(".")[0] if head == "instar" and rest else None


def imported_layers(source: str) -> Iterator[tuple[int, str]]:
    """(line, layer) of every import anywhere in a module, also inside functions and TYPE_CHECKING."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"line {node.lineno}: relative import; write the whole name")
        elif isinstance(node, ast.ImportFrom) and node.module == "instar":
            names = [f"instar.{alias.name}" for alias in node.names if alias.name != "__version__"]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        yield from ((node.lineno, layer) for name in names if (layer := layer_of(name)))


def violations(own: str, source: str) -> list[str]:
    """What a module of a layer imports against the order."""
    if own == TESTING:
        return []
    found = []
    for line, layer in imported_layers(source):
        allowed = layer == own or (layer in LEVEL and LEVEL[layer] > LEVEL[own])
        if not allowed:
            found.append(f"line {line}: {own} imports {layer}")
    return found


def test_every_package_is_a_layer() -> None:
    present = {path.stem for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert present - {"__pycache__"} <= {*LEVEL, TESTING}


def test_imports_go_down() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts == ("__init__",):
            continue
        wrong += [f"{path.relative_to(PACKAGE)} {text}" for text in violations(parts[0], path.read_text())]
    assert not wrong, "\n".join(wrong)


def test_an_upward_import_is_seen() -> None:
    assert violations("heap", "def f():\n    from instar.cli.main import main\n") == [
        "line 2: heap imports cli"
    ]
    assert violations("patching", "import instar.validation.checks") == [
        "line 1: patching imports validation"
    ]
    assert violations("heap", "from instar.testing import versions") == ["line 1: heap imports testing"]
    assert violations("update", "from instar.process import maps\nfrom instar import errors") == []
