"""`instar status [PID]`: what runs that was updated, and what it can be taken back to."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from instar.cli.arguments import parse_pid
from instar.cli.failures import print_document
from instar.cli.wording import count_of, printable
from instar.errors import HostError

if TYPE_CHECKING:
    from instar.update.status import ProcessStatus

_BUILD_ID = 12  # characters shown
_EPILOG = """\
examples:
  instar status                what runs that was updated
  instar status 4711           one process: version, since when, what it can be taken back to"""


def prepare_parser(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("pid", metavar="PID", nargs="?", type=parse_pid, help="one process only")


def run(arguments: argparse.Namespace) -> int:
    """Look and print."""
    from instar.update.journal import journal_path
    from instar.update.status import STATUS_SCHEMA, status_of, status_of_all

    try:
        found = status_of_all() if arguments.pid is None else [status_of(arguments.pid)]
    except OSError as error:
        raise HostError(
            "journal-unreadable",
            f"{journal_path()}: {error.strerror}",
            "run instar as the user that made the updates",
        ) from error
    if arguments.json:
        print_document({"schema": STATUS_SCHEMA, "processes": [one.to_json() for one in found]})
    elif arguments.pid is not None:
        print("\n".join(process_lines(found[0])))
    else:
        print("\n".join(table_lines(found) or [f"no process that runs is in {journal_path()}"]))
    return 0


def process_lines(status: ProcessStatus) -> list[str]:
    """One process in full."""
    lines = [
        f"process {status.pid} ({status.name}): {status.path}",
        f"  build-id {status.build_id[:_BUILD_ID] or 'none'}, since {status.since:%Y-%m-%d %H:%M:%S} UTC",
        f"  {_updates(status)}",
    ]
    if status.probation is not None:
        lines.append(f"  on probation for another {status.probation:.0f} s")
    for way in status.ways:
        note = "" if way.kept else ", which is not kept any more"
        lines.append(f"  --steps {way.steps}: back to {way.path} ({way.build_id[:_BUILD_ID]}){note}")
    return [printable(line) for line in lines]


def _updates(status: ProcessStatus) -> str:
    if not status.updates:
        return "never updated, as far as this user's journal knows"
    back = f", {status.rollbacks} of them back" if status.rollbacks else ""
    return f"carried over {count_of(status.updates, 'time')}{back}"


def table_lines(found: list[ProcessStatus]) -> list[str]:
    """A line a process."""
    if not found:
        return []
    rows = [("process", "since (UTC)", "updates", "kept", "probation", "program")]
    rows += [
        (
            str(one.pid),
            f"{one.since:%Y-%m-%d %H:%M:%S}",
            str(one.updates),
            str(sum(way.kept for way in one.ways)),
            "-" if one.probation is None else f"{one.probation:.0f} s",
            printable(f"{one.path} ({one.build_id[:_BUILD_ID]})"),
        )
        for one in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
