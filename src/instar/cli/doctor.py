"""`instar doctor [PID]`: what on this machine or in a process stands in the way of an update."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from instar import __version__
from instar.cli.arguments import parse_pid
from instar.cli.console import wants_colour
from instar.cli.failures import EXIT_DONE, EXIT_HOST, EXIT_REFUSED, print_document
from instar.cli.wording import printable

if TYPE_CHECKING:
    from instar.update.findings import Finding

DOCTOR_SCHEMA = 1
_EPILOG = """\
examples:
  instar doctor                         this machine
  instar doctor 4711                    this machine and process 4711, which is not stopped for it
  instar doctor 4711 --json

exit status: 0 nothing stands in the way; 3 something in the process; 6 something on the machine, or a
permission"""
_MARKS = {"ok": "  ok ", "note": " note", "refused": "  NO ", "host": "  NO "}
_COLOURS = {"ok": "32", "note": "33", "refused": "1;31", "host": "1;31"}


def prepare_parser(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("pid", metavar="PID", nargs="?", type=parse_pid, help="a running program")


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and sum up in the exit status."""
    from instar.update.host import examine_host
    from instar.update.target import examine_target

    machine = examine_host()
    process = examine_target(arguments.pid) if arguments.pid is not None else []
    status = verdict([*machine, *process])
    if arguments.json:
        print_document(_document(arguments.pid, machine, process, status))
        return status
    coloured = wants_colour(sys.stdout)
    print(f"instar {__version__} on this machine")
    print("\n".join(line for finding in machine for line in finding_lines(finding, coloured)))
    if process:
        print(f"process {arguments.pid}")
        print("\n".join(line for finding in process for line in finding_lines(finding, coloured)))
    print(_summary(arguments.pid, status))
    return status


def verdict(findings: list[Finding]) -> int:
    """The exit status that findings come to; what the machine refuses counts first."""
    verdicts = {finding.verdict for finding in findings}
    if "host" in verdicts:
        return EXIT_HOST
    return EXIT_REFUSED if "refused" in verdicts else EXIT_DONE


def finding_lines(finding: Finding, coloured: bool) -> list[str]:
    """A line for the answer, one more for the remedy."""
    mark = _MARKS[finding.verdict]
    if coloured:
        mark = f"\x1b[{_COLOURS[finding.verdict]}m{mark}\x1b[0m"
    code = f" [{finding.code}]" if finding.code else ""
    lines = [f"{mark}  {finding.subject}: {printable(finding.text)}{code}"]
    if finding.remedy:
        lines.append(f"         {printable(finding.remedy)}")
    return lines


def _summary(pid: int | None, status: int) -> str:
    subject = "this machine" if pid is None else f"process {pid}"
    if status == EXIT_DONE:
        return f"nothing stands in the way of updates{'' if pid is None else f' of {subject}'}"
    return f"{subject} cannot be updated as things are; see NO above"


def _document(pid: int | None, machine: list[Finding], process: list[Finding], status: int) -> dict[str, Any]:
    return {
        "schema": DOCTOR_SCHEMA,
        "instar": __version__,
        "pid": pid,
        "machine": [finding.to_json() for finding in machine],
        "process": [finding.to_json() for finding in process],
        "ready": status == EXIT_DONE,
    }
