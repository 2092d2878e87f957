"""Write docs/cases.md anew from tests/programs/CASES.toml and the scenarios: python scripts/cases.py"""

from __future__ import annotations

from pathlib import Path

from instar.testing.cases import load_groups, render
from instar.testing.scenarios import load_scenarios

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "tests" / "programs"

if __name__ == "__main__":
    text = render(load_groups(PROGRAMS / "CASES.toml"), load_scenarios(PROGRAMS))
    (ROOT / "docs" / "cases.md").write_text(text)
