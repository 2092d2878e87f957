"""How quantities and names are written for people."""

from __future__ import annotations


def format_bytes(count: int) -> str:
    """ "512 bytes", "1.5 KB", "12.0 MB" (powers of 1024)."""
    if count < 1024:
        return "1 byte" if count == 1 else f"{count} bytes"
    value = float(count)
    for unit in ("KB", "MB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} GB"


def format_ms(milliseconds: float) -> str:
    """ "0.42 ms", "13.8 ms", "812 ms", "3.2 s"."""
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.1f} s"
    digits = 2 if milliseconds < 1 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:.{digits}f} ms"


def count_of(number: int, noun: str) -> str:
    """ "1 block", "2,000 blocks"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str) -> str:
    """The text without what could move the cursor: names and paths come from other people's programs."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )
