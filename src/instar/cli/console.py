"""Progress of an update on the terminal: a live view, plain lines, or nothing. Rich is loaded here only."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from instar.cli.wording import count_of, format_bytes, format_ms, printable
from instar.update.progress import PAUSED_PHASES, Progress, SilentProgress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

# Drawing takes about a millisecond: rarely, and in a pause only when it is so long that a user would wonder.
_REDRAW_S = 0.1
_REDRAW_PAUSED_S = 0.25


@dataclass
class _Phase:
    name: str
    begun: float
    ended: float | None = None
    objects: int = 0
    bytes: int = 0

    def seconds(self, now: float) -> float:
        return (self.ended if self.ended is not None else now) - self.begun

    def amount(self) -> str:
        parts = [count_of(self.objects, "object")] if self.objects else []
        if self.bytes:
            parts.append(format_bytes(self.bytes))
        return ", ".join(parts)


class _Timed:
    """Keeps what happened; subclasses show it."""

    def __init__(self) -> None:
        self.phases: list[_Phase] = []

    def phase(self, name: str) -> None:
        """See Progress."""
        now = time.monotonic()
        self._end(now)
        self.phases.append(_Phase(name, now))
        self.begun()

    def step(self, *, objects: int = 0, bytes: int = 0) -> None:
        """See Progress."""
        if self.phases:
            self.phases[-1].objects += objects
            self.phases[-1].bytes += bytes
        self.moved()

    def close(self) -> None:
        """The update is over."""
        self._end(time.monotonic())

    def _end(self, now: float) -> None:
        if self.phases and self.phases[-1].ended is None:
            self.phases[-1].ended = now
            self.finished(self.phases[-1])

    def begun(self) -> None:
        """A phase has begun."""

    def moved(self) -> None:
        """The current phase went on."""

    def finished(self, phase: _Phase) -> None:
        """A phase is over."""


class PlainProgress(_Timed):
    """One line a phase when it is over, for logs and pipes; written after the pause, not in it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._held: list[str] = []

    def finished(self, phase: _Phase) -> None:
        """A line with what was done."""
        amount = phase.amount()
        self._write(f"{phase.name}: {format_ms(phase.seconds(0) * 1000)}{f', {amount}' if amount else ''}")

    def note(self, text: str) -> None:
        """See Progress."""
        self._write(printable(f"note: {text}"))

    def warning(self, text: str) -> None:
        """See Progress."""
        self._write(printable(f"warning: {text}"))

    def close(self) -> None:
        """Write what was held back."""
        super().close()
        self._flush()

    def _write(self, line: str) -> None:
        self._held.append(line)
        if not (self.phases and self.phases[-1].name in PAUSED_PHASES):
            self._flush()

    def _flush(self) -> None:
        lines, self._held = self._held, []
        with contextlib.suppress(OSError):
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()


class LiveProgress(_Timed):
    """The phases so far, drawn anew in place; no thread of its own, so a pause is never disturbed by it."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        super().__init__()
        self._console = console
        self._drawn = 0.0
        self._lines: list[tuple[str, str]] = []
        self._live: Live = Live(console=console, auto_refresh=False)
        self._live.start()

    def begun(self) -> None:
        """Show the new phase, but not the first of the pause: that begins now and shall be short."""
        if self.phases[-1].name == PAUSED_PHASES[0]:
            self._drawn = time.monotonic()
        self._draw()

    def moved(self) -> None:
        """Show how far it is."""
        self._draw()

    def note(self, text: str) -> None:
        """See Progress."""
        self._lines.append(("dim", printable(text)))
        self._draw()

    def warning(self, text: str) -> None:
        """See Progress."""
        self._lines.append(("yellow", printable(f"warning: {text}")))
        self._draw()

    def close(self) -> None:
        """Draw the last state and leave it on the terminal."""
        super().close()
        self._live.update(self._render(), refresh=True)
        self._live.stop()

    def _draw(self) -> None:
        now = time.monotonic()
        paused = bool(self.phases) and self.phases[-1].name in PAUSED_PHASES
        if now - self._drawn >= (_REDRAW_PAUSED_S if paused else _REDRAW_S):
            self._live.update(self._render(), refresh=True)
            self._drawn = time.monotonic()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        now = time.monotonic()
        table = Table.grid(padding=(0, 2))
        table.add_column()
        table.add_column()
        table.add_column(justify="right")
        table.add_column(style="dim")
        for phase in self.phases:
            mark = Text("done" if phase.ended else "....", style="green" if phase.ended else "cyan")
            name = Text(phase.name, style="bold" if phase.name in PAUSED_PHASES else "")
            table.add_row(mark, name, format_ms(phase.seconds(now) * 1000), phase.amount())
        return Group(table, *(Text(text, style=style) for style, text in self._lines))


def wants_colour(stream: TextIO) -> bool:
    """Whether a stream is a terminal that may be drawn on (NO_COLOR and TERM=dumb say no)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def open_progress(*, quiet: bool, to_stderr: bool) -> Iterator[Progress]:
    """Progress for the length of an update: live on a terminal, plain lines elsewhere, silent when quiet.

    Args:
        quiet: Show nothing.
        to_stderr: Standard output belongs to a JSON document.
    """
    if quiet:
        yield SilentProgress()
        return
    stream = sys.stderr if to_stderr else sys.stdout
    shown = _live(stream) if wants_colour(stream) else PlainProgress(stream)
    try:
        yield shown
    finally:
        shown.close()


def _live(stream: TextIO) -> LiveProgress:
    from rich.console import Console

    return LiveProgress(Console(file=stream, highlight=False))
