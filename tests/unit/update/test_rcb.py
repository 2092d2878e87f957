"""What must be right for the old version to survive is counted, and holds nothing that it does not need."""

from __future__ import annotations

import runpy
from pathlib import Path

SCRIPT = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "rcb.py"))


def test_lines_with_code_are_counted() -> None:
    text = '"""Doc\n\nstring."""\n\nimport os  # why\n\n# comment\n'
    text += 'def f():\n    """Doc."""\n    return (\n        1\n    )\n'
    assert SCRIPT["count_python"](text) == 5
    assert SCRIPT["count_c"]("/* a\n b */\nint x; // y\n\n// z\nint y;\n") == 2


def test_the_guard_loads_little() -> None:
    files = SCRIPT["measure"]()[1]
    names = {path.relative_to(SCRIPT["SOURCE"] / "instar").as_posix() for path in files}
    assert {name.split("/")[0] for name in names} == {"__init__.py", "errors.py", "guard", "process"}
    assert "process/tracee.py" not in names and "process/memory.py" not in names
    assert "guard/client.py" not in names
    assert not any("numpy" in path.read_text() for path in files)
