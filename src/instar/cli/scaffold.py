"""``instar scaffold OLD NEW``: a handler file with a stub for everything that cannot be automatic."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from instar.cli.diff import open_sides
from instar.cli.failures import EXIT_DONE, print_document
from instar.handlers.scaffold import write_scaffold
from instar.metadata.pieces import align_pieces
from instar.metadata.version import load_version
from instar.pairing.plan import plan_pairing
from instar.update.confined import compute

_EPILOG = """\
examples:
  instar scaffold server-v1 server-v2 > server-v2.instar.py
  instar diff server-v1 server-v2 --handlers server-v2.instar.py

exit status: 0 (with a note on standard error if there is nothing to write)"""


def prepare_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("old", metavar="OLD", help="program file or PID of the old version")
    parser.add_argument("new", metavar="NEW", help="program file or PID of the new version")


def run(arguments: argparse.Namespace) -> int:
    """Compare and write Python to standard output."""
    with open_sides(arguments) as (old, new):
        text, stubs = compute(
            lambda: _write(old.path, new.path), tuple[str, int], old.descriptors + new.descriptors
        )
    if arguments.json:
        print_document({"schema": 1, "needed": bool(stubs), "handlers": text, "problems": stubs})
        return EXIT_DONE
    sys.stdout.write(text)
    if not stubs:
        print("nothing is needed: every difference is automatic", file=sys.stderr)
    return EXIT_DONE


def _write(old_path: Path, new_path: Path) -> tuple[str, int]:
    """What needs no rights."""
    old, new = align_pieces(load_version(old_path), load_version(new_path))
    return write_scaffold(plan_pairing(old, new))
