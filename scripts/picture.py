"""Draws the terminal picture of the README from a real run of the demo: `make picture`."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
_WIDTH = 108
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.S)  # they load from another host; any monospace will do


def main() -> int:
    """Run the demo and write the picture; a demo that fails leaves the old picture in place."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs" / "demo.svg")
    demo = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py"], stdout=subprocess.PIPE, text=True, check=False
    )
    if demo.returncode:
        print(demo.stdout)
        return demo.returncode
    target.write_text(draw(demo.stdout))
    print(f"{target} drawn")
    return 0


def draw(output: str) -> str:
    """The SVG of a terminal in which `make demo` has just ended."""
    console = Console(
        record=True, width=_WIDTH, file=io.StringIO(), highlight=False, color_system="truecolor"
    )
    console.print(Text.assemble(("$ ", "dim"), ("make demo", "bold")))
    lines = output.rstrip().splitlines()
    for index, line in enumerate(lines):
        console.print(_styled(line, last=index == len(lines) - 1))
    svg = console.export_svg(title="instar")
    return "\n".join(line.rstrip() for line in _FONT_FACE.sub("", svg).splitlines()) + "\n"


def _styled(line: str, *, last: bool) -> Text:
    if last:
        return Text(line, style="bold green")
    if line.startswith("✓"):
        return Text.assemble(("✓", "green"), line[1:])
    return Text(line)


if __name__ == "__main__":
    sys.exit(main())
