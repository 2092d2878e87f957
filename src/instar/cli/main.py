"""The command line: find the verb, load it alone, call it, turn errors into exit status.

A verb is a module of this package with ``prepare_parser(parser)`` and ``run(arguments) -> int``. It is
imported only when it was asked for, so that ``instar --help`` loads neither NumPy nor Rich.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn, Protocol, cast

from instar import __version__
from instar.cli.failures import (
    InterruptedBySignal,
    as_instar_error,
    error_document,
    exit_status,
    print_document,
    print_error,
)
from instar.errors import UsageError

_AGAIN_S = 0.01  # long enough for a finalizer to end

VERBS = {
    "update": "carry a running program into its next version",
    "rollback": "take a running program back to the version before, with the state of now",
    "diff": "what changed between two versions, and what an update would do about it",
    "scaffold": "write the skeleton of a handler file for what is not automatic",
    "check": "classify every pointer of a running program; show the bad ones",
    "inspect": "look at a running program's variables, or count its objects",
    "doctor": "what on this machine or in a process stands in the way, and the remedy",
    "status": "what runs that was updated: version, since when, what it can be taken back to",
    "history": "the updates that were made on this machine",
}
_DESCRIPTION = "Carry a running C program into its next version, with its memory, connections and users."
_EPILOG = """\
examples:
  instar doctor 4711                    can process 4711 be updated? if not, why?
  instar diff 4711 ./server-v2          what would change
  instar update 4711 ./server-v2        do it

exit status: 0 done; 1 bug of instar; 2 usage; 3 refused, target untouched; 4 failed and rolled back, old
version serving; 5 target damaged; 6 machine or permission"""


class Verb(Protocol):
    """What a module of this package offers for its verb."""

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Add description, examples and arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; returns the exit status or raises InstarError."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError("usage", message, f"see `{self.prog} --help`")


def make_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The whole parser, with the arguments of the chosen verb only."""
    parser = _Parser(
        prog="instar",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"instar {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for name, summary in VERBS.items():
        verb_parser = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            conflict_handler="resolve",
            allow_abbrev=False,
        )
        verb_parser.add_argument("--json", action="store_true", help="print one JSON document")
        verb_parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
        if name == chosen:
            load_verb(name).prepare_parser(verb_parser)
    return parser


def load_verb(name: str) -> Verb:
    """Import the module of a verb."""
    return cast(Verb, importlib.import_module(f"instar.cli.{name}"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status. ``argv`` is without the program's name."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_standard_streams()
    _reset_signals()
    chosen = next((word for word in words if not word.startswith("-")), None)
    try:
        with _signals_as_exceptions():
            arguments = make_parser(chosen).parse_args(words)
            status = load_verb(arguments.verb).run(arguments)
            sys.stdout.flush()
            return status
    except BrokenPipeError:
        return _reader_gone()
    except (Exception, KeyboardInterrupt) as error:
        return _report(error, words)


def _open_standard_streams() -> None:
    """Whoever started us may have closed them; then another file would get their numbers and our messages."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _reset_signals() -> None:
    """Ignored children cannot be waited for, and blocked signals neither interrupt nor end a pause."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    except ValueError:  # not the main thread: signals are somebody else's there
        return
    blocked = (signal.SIGALRM, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)


def _report(error: BaseException, words: Sequence[str]) -> int:
    """Print an error as it was asked for; the verb's options may not have been parsed."""
    options = words[: words.index("--")] if "--" in words else words
    if "--debug" in options:
        traceback.print_exception(error, file=sys.stderr)
    described = as_instar_error(error)
    print_error(described)
    if "--json" in options:
        try:
            print_document(error_document(described))
        except BrokenPipeError:
            _reader_gone()
    return exit_status(error if isinstance(error, KeyboardInterrupt) else described)


def _reader_gone() -> int:
    """Nobody reads our output any more; without this the interpreter complains at its end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
    return 128 + signal.SIGPIPE


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """While a verb runs, SIGTERM and SIGHUP unwind it like Ctrl-C, so that what it began is undone."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise InterruptedBySignal(number)

    def again(unraisable: sys.UnraisableHookArgs) -> None:
        """It came while a finalizer ran, where exceptions are dropped: it comes once more, afterwards."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            number = getattr(unraisable.exc_value, "number", signal.SIGINT)
            late = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
            late.daemon = True
            late.start()
            waiting.append(late)
        else:
            hook(unraisable)

    waiting: list[threading.Timer] = []
    hook, sys.unraisablehook = sys.unraisablehook, again
    try:
        previous = {
            number: signal.signal(number, interrupt)
            for number in (signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is signal.SIG_DFL
        }
    except ValueError:  # not the main thread: signals are somebody else's there
        previous = {}
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for late in waiting:
            late.cancel()
        for number, handler in previous.items():
            if signal.getsignal(number) is interrupt:
                signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
