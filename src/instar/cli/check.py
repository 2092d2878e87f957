"""`instar check PID`: every pointer of a running program classified, the bad ones shown."""

from __future__ import annotations

import argparse

from instar.cli.arguments import parse_pid
from instar.cli.failures import print_document
from instar.cli.wording import format_bytes

_EPILOG = """\
examples:
  instar check 4711
  instar check $(pidof dnsmasq) --json

Every pointer of the process is classified by what it leads to. The process is stopped while it is copied,
some milliseconds, and goes on as if nothing had been.

exit status: 0 nothing bad; 3 a wild or conflicting pointer was found"""
_CHECK_SCHEMA = 1


def prepare_parser(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("pid", metavar="PID", type=parse_pid, help="the running program")


def run(arguments: argparse.Namespace) -> int:
    """Classify and print."""
    from instar.update.examine import examine

    found = examine(arguments.pid)
    pointers, census = found.pointers, found.census
    document = {
        "schema": _CHECK_SCHEMA,
        "pid": arguments.pid,
        "pointers": pointers,
        "problems": [
            {"code": p.code, "path": p.path, "cause": p.cause, "remedy": p.remedy} for p in found.problems
        ],
        "warnings": list(found.warnings),
        "leaked": {"blocks": census.leaked_blocks, "bytes": census.leaked_bytes},
        "untyped": {"blocks": census.untyped_blocks, "bytes": census.untyped_bytes},
        "inferred_types": found.inferred,
    }
    if arguments.json:
        print_document(document)
    else:
        counted = ", ".join(f"{count:,} {name}" for name, count in pointers.items() if count)
        print(f"process {arguments.pid}: {sum(pointers.values()):,} pointers: {counted}")
        heap = f"{census.heap_blocks:,} heap blocks, {format_bytes(census.heap_bytes)}"
        print(f"  {heap}; {census.untyped_blocks:,} untyped, {found.inferred:,} by inference")
        if census.leaked_blocks:
            print(f"  leaked: {census.leaked_blocks:,} blocks, {format_bytes(census.leaked_bytes)}")
        for warning in found.warnings:
            print(f"  {warning}")
        for problem in found.problems:
            print(f"  {problem.code}: {problem.cause}")
    return 3 if found.is_wrong else 0
