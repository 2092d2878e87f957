"""``instar scaffold OLD NEW``: a handler file with a stub for everything that cannot be automatic."""

from __future__ import annotations

import argparse
import sys

from instar.cli.diff import load_side
from instar.cli.failures import EXIT_DONE, print_document
from instar.handlers.scaffold import write_scaffold
from instar.metadata.pieces import align_pieces
from instar.pairing.plan import plan_pairing

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
    old, new = align_pieces(load_side(arguments.old), load_side(arguments.new))
    plan = plan_pairing(old, new)
    text, stubs = write_scaffold(plan)
    if arguments.json:
        print_document({"schema": 1, "needed": bool(stubs), "handlers": text, "problems": stubs})
        return EXIT_DONE
    sys.stdout.write(text)
    if not stubs:
        print("nothing is needed: every difference is automatic", file=sys.stderr)
    return EXIT_DONE
