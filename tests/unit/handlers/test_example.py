"""The example of a handler file: strictly typed, and loaded as an update would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from instar.handlers.module import load_handlers

EXAMPLE = Path(__file__).parents[3] / "examples" / "handlers" / "handlers.py"


def test_it_declares_what_it_says() -> None:
    registry = load_handlers(EXAMPLE)
    assert len(registry.pairs) == 3
    kinds = {handler.kind for handler in registry.handlers}
    assert kinds == {
        *("transform", "initialize", "resolve_union", "resolve_pointer", "on", "invariant"),
    }
    assert [handler.target for handler in registry.handlers if handler.inverse] == [
        *("struct session.timeout_ms", "struct user", "enum mode"),
    ]
    making = registry.of("transform", "initialize", "resolve_union", "resolve_pointer")
    assert all(handler.is_checked for handler in making)
    assert {handler.line.file for handler in registry.handlers} == {str(EXAMPLE)}


def test_it_is_typed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stdout
