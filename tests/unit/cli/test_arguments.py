"""Kinds of argument."""

import argparse
from collections.abc import Callable

import pytest

from instar.cli.arguments import parse_argv, parse_count, parse_pid, parse_positive


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_pid, "4711", 4711),
        (parse_positive, "0.5", 0.5),
        (parse_count, "0", 0),
        (parse_argv, "./server -c 'a b' \udcff", (b"./server", b"-c", b"a b", b"\xff")),
    ],
)
def test_good(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((parse_pid, text) for text in ("", "0", "-1", "x", "1.0", "²", "99999999999", "1 2")),
        *((parse_positive, text) for text in ("", "0", "-1", "x", "inf", "nan")),
        *((parse_count, text) for text in ("", "-1", "x", "9" * 30)),
        *((parse_argv, text) for text in ("", "  ", "'open")),
    ],
)
def test_bad(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse(text)
