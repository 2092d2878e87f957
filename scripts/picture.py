"""Draws the pictures of the documentation from a real run of the demo: `make picture`.

The terminal, and the top of the page that `--report` writes, as Chromium shows it.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
_WIDTH = 108
_WINDOW, _SCALE = (1000, 1290), 0.8  # CSS pixels; the picture stays below 100 KB
_BROWSER = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.S)  # they load from another host; any monospace will do


def main() -> int:
    """Run the demo and draw the pictures; a demo that fails leaves the old ones in place."""
    place = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs")
    with tempfile.TemporaryDirectory() as home:
        page = Path(home, "report.html")
        words = [sys.executable, str(ROOT / "examples" / "demo.py"), "--report", str(page)]
        demo = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
        if demo.returncode:
            print(demo.stdout)
            return demo.returncode
        photograph(page, place / "report.png", Path(home, "profile"))
    (place / "demo.svg").write_text(draw(demo.stdout))
    print(f"{place / 'demo.svg'} and {place / 'report.png'} drawn")
    return 0


def photograph(page: Path, target: Path, profile: Path) -> None:
    """The top of a page as a browser shows it; raises CalledProcessError."""
    width, height = _WINDOW
    subprocess.run(
        ["chromium", *_BROWSER, f"--user-data-dir={profile}", f"--window-size={width},{height}",
         f"--force-device-scale-factor={_SCALE}", f"--screenshot={target}", page.as_uri()],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip


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
