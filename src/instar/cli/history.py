"""`instar history`: the updates that were made on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from instar.cli.arguments import parse_count
from instar.cli.failures import print_document
from instar.cli.wording import format_ms, printable
from instar.errors import HostError
from instar.update import journal
from instar.update.journal import Entry, History

HISTORY_SCHEMA = 1
_BUILD_ID = 12  # characters shown
_EPILOG = """\
examples:
  instar history
  instar history --limit 0 --json       all of them, for a program"""


def prepare_parser(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--limit",
        type=parse_count,
        default=20,
        metavar="N",
        help="the last N updates, 0 for all (default 20)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the journal, oldest first."""
    place = journal.journal_path()
    try:
        history = journal.read_history(arguments.limit or None, place)
    except OSError as error:
        raise HostError(
            "journal-unreadable", f"{place}: {error.strerror}", "run instar as the user that made the updates"
        ) from error
    if arguments.json:
        print_document(
            {
                "schema": HISTORY_SCHEMA,
                "updates": [entry.to_json() for entry in history.entries],
                "damaged_lines": history.damaged,
            }
        )
    else:
        print("\n".join(history_lines(history) or [f"no updates in {place}"]))
    if history.damaged:
        print(f"instar: {history.damaged} damaged lines of {place} were skipped", file=sys.stderr)
    return 0


def history_lines(history: History) -> list[str]:
    """The entries as a table: when, who, outcome, processes, pause, program and builds."""
    rows = [_row(entry) for entry in history.entries]
    if not rows:
        return []
    rows.insert(0, ("when (UTC)", "user", "outcome", "process", "pause", "program"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _row(entry: Entry) -> tuple[str, ...]:
    report = entry.report
    error = report.get("error")
    outcome = str(report["outcome"])
    if outcome == "updated" and report.get("kind") == "rollback":
        outcome = "taken back"
    if isinstance(error, Mapping):
        outcome += f" [{error.get('code')}]"
    pids = str(report["old_pid"])
    if report.get("new_pid") is not None:
        pids += f" -> {report['new_pid']}"
    pause = report.get("pause_ms")
    cells = (
        entry.time.strftime("%Y-%m-%d %H:%M:%S"),
        entry.user,
        outcome,
        pids,
        format_ms(pause) if isinstance(pause, int | float) and pause > 0 else "-",
        _versions(report),
    )
    return tuple(printable(cell) for cell in cells)


def _versions(report: Mapping[str, Any]) -> str:
    old, new = (
        report.get(side) if isinstance(report.get(side), Mapping) else None for side in ("old", "new")
    )
    if new is None:
        return "-" if old is None else str(old.get("path"))
    builds = [str((side or {}).get("build_id") or "?")[:_BUILD_ID] for side in (old, new)]
    return f"{new.get('path')} ({builds[0]} -> {builds[1]})"
