"""What must be right for the old version to survive stays small, and is all that is counted."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
_LOADED = """
import sys
sys.path.insert(0, {source!r})
import {entry}
print(*(m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "instar"), sep="\\n")
"""


@pytest.fixture(scope="module")
def rcb() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rcb", ROOT / "scripts/rcb.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_guard_is_small(rcb: ModuleType) -> None:
    _, files = rcb.measure()
    assert 500 < sum(files.values()) <= rcb.LIMIT == 800


def test_all_that_the_guard_loads_is_counted(rcb: ModuleType) -> None:
    program = _LOADED.format(source=str(rcb.SOURCE), entry=rcb.ENTRY)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {Path(line) for line in done.stdout.splitlines()}
    assert loaded == rcb.closure(rcb.ENTRY)
    assert all(path.suffix == ".py" for path in loaded)


def test_lines_are_counted_as_they_are(rcb: ModuleType) -> None:
    text = '"""Doc."""\n\n# comment\ndef f() -> int:\n    """Doc\n    more."""\n    return (1,\n2)\n'
    assert rcb.count_python(text) == 3
