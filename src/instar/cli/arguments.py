"""Kinds of argument that several verbs take; what is wrong becomes a usage error."""

from __future__ import annotations

import argparse
import os
import shlex

_PID_LIMIT = 1 << 31


def parse_pid(text: str) -> int:
    """A process id."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < _PID_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a process id")
    return int(text)


def parse_positive(text: str) -> float:
    """A positive, finite number."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def parse_count(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def parse_steps(text: str) -> int:
    """A whole number, 1 or more."""
    number = parse_count(text)
    if not number:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return number


def parse_argv(text: str) -> tuple[bytes, ...]:
    """A command line in the shell's quoting."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    if not words:
        raise argparse.ArgumentTypeError("it is empty; the first word is the program's name")
    return tuple(os.fsencode(word) for word in words)
