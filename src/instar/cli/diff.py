"""``instar diff OLD NEW``: what changed between two versions, and what an update would do about it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from instar.cli.failures import EXIT_DONE, EXIT_REFUSED, print_document
from instar.handlers.session import Handlers
from instar.metadata.pieces import align_pieces
from instar.metadata.version import load_version
from instar.pairing.plan import plan_pairing
from instar.pairing.problems import Change
from instar.pairing.report import Difference, Report, make_report
from instar.process.failures import explain_absence, lost_process
from instar.process.status import executable, executable_name
from instar.update.confined import compute
from instar.validation.conditions import Conditions

_EXAMPLES = """\
examples:
  instar diff 4711 ./server-v2          the running program against its next version
  instar diff server-v1 server-v2       two files
  instar diff --json v1 v2 | jq .problems

exit status: 0 everything is automatic; 3 something needs you (see `problems`)"""
_MOVES_SHOWN = 4
_MARKS = {"added": "green", "removed": "red", "changed": "yellow"}


def prepare_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EXAMPLES
    parser.add_argument("old", metavar="OLD", help="program file or PID of the old version")
    parser.add_argument("new", metavar="NEW", help="program file or PID of the new version")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="CODE", help="accept problems of this code"
    )
    parser.add_argument(
        "--handlers", type=Path, metavar="FILE", help="count what a handler file settles (docs/handlers.md)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Compare and print; see the exit status in the epilog."""
    with open_sides(arguments) as (old, new):
        report = compute(
            lambda: _compare(old.path, new.path, arguments.handlers, arguments.allow),
            Report,
            old.descriptors + new.descriptors,
        )
        report = replace(
            report, old=replace(report.old, path=old.name), new=replace(report.new, path=new.name)
        )
    if arguments.json:
        print_document(report.to_json())
    elif sys.stdout.isatty():
        print_tables(report, Console())
    else:
        print("\n".join(plain_lines(report)))
    return EXIT_DONE if report.is_automatic else EXIT_REFUSED


def _compare(old_path: Path, new_path: Path, handler_file: Path | None, allow: list[str]) -> Report:
    """What needs no rights."""
    old, new = align_pieces(load_version(old_path), load_version(new_path))
    handlers = Handlers.find(handler_file, new.path, old, new)
    plan = plan_pairing(old, new, allow=allow, settled=handlers.settled)
    invariants = bool(Conditions.find(None, new.path).invariants)
    unchecked = handlers.never_checked(frozenset(allow), has_invariants=invariants)
    return make_report(replace(plan, problems=(*plan.problems, *unchecked)))


class SideFile(NamedTuple):
    """A program file to be compared: where it can be read, what it is called, what keeps it open."""

    path: Path
    name: str
    descriptors: tuple[int, ...] = ()


@contextmanager
def open_sides(arguments: argparse.Namespace) -> Iterator[tuple[SideFile, SideFile]]:
    """The two program files; those of running programs are opened for who has no right to do that."""
    with ExitStack() as stack:
        yield _open_side(arguments.old, stack), _open_side(arguments.new, stack)


def _open_side(argument: str, stack: ExitStack) -> SideFile:
    if not argument.isdigit():
        return SideFile(Path(argument), argument)
    absence = explain_absence(int(argument))
    if absence is not None:
        raise absence
    path = executable(int(argument))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise lost_process(int(argument), error) from error
    stack.callback(os.close, descriptor)
    there = Path(executable_name(int(argument)))
    with suppress(OSError):
        if os.path.samestat(there.stat(), os.fstat(descriptor)):  # it may be replaced, or in another place
            return SideFile(there, str(there))
    return SideFile(Path(f"/proc/self/fd/{descriptor}"), str(path), (descriptor,))


def sections(report: Report) -> list[tuple[str, tuple[Difference, ...]]]:
    """The lists of differences with their headings."""
    return [("types", report.types), ("variables", report.variables), ("functions", report.functions)]


def plain_lines(report: Report) -> list[str]:
    """The report for a pipe: one difference a line, its details indented."""
    lines = [f"old: {report.old.path} {report.old.build_id}", f"new: {report.new.path} {report.new.build_id}"]
    for heading, differences in sections(report):
        for one in differences:
            verdict = "" if one.is_automatic else " (needs you)"
            lines.append(f"{heading[:-1]} {one.status}: {one.name}{verdict}")
            lines += [f"    {line}" for line in change_lines(one)]
    lines += [f"settled: {what} by {where}" for what, where in report.settled]
    for problem in report.problems:
        lines.append(f"problem [{problem.code}] {problem.path}: {problem.cause}")
        lines.append(f"    {problem.remedy}")
    return [*lines, summary(report)]


def change_lines(difference: Difference) -> list[str]:
    """What is done about a difference; many members that only moved are one line."""
    moved = [change for change in difference.changes if change.kind == "moved"]
    shown = difference.changes
    if len(moved) > _MOVES_SHOWN:
        shown = tuple(change for change in shown if change.kind != "moved")
    lines = [_change_line(change) for change in shown]
    if len(moved) > _MOVES_SHOWN:
        lines.append(f"{len(moved)} members moved, `{_subject(moved[0])}` to `{_subject(moved[-1])}`")
    return lines


def _change_line(change: Change) -> str:
    return f"{_subject(change)} {change.kind}: {change.detail}".lstrip()


def _subject(change: Change) -> str:
    return change.path.lstrip(".")


def summary(report: Report) -> str:
    """The last line: counts and the verdict."""
    parts = []
    for heading, differences in sections(report):
        counts = [
            f"{number} {status}"
            for status in ("added", "removed", "changed")
            if (number := sum(one.status == status for one in differences))
        ]
        parts.append(f"{heading}: {', '.join(counts) if counts else 'no difference'}")
    verdict = "everything is automatic"
    if report.problems:
        verdict = f"{len(report.problems)} need{'s' if len(report.problems) == 1 else ''} you"
    return "; ".join([*parts, verdict])


def print_tables(report: Report, console: Console) -> None:
    """The report for a terminal."""
    console.print(Text(f"{report.old.path} -> {report.new.path}", style="bold"))
    for heading, differences in sections(report):
        if any(one.changes or one.problems for one in differences):
            console.print(_table(heading, differences))
        elif differences:
            console.print(_names(heading, differences))
    if report.settled:
        console.print(_settled_table(report))
    if report.problems:
        console.print(_problem_table(report))
    console.print(Text(summary(report), style="bold green" if report.is_automatic else "bold red"))


def _table(heading: str, differences: tuple[Difference, ...]) -> Table:
    table = Table(title=heading, title_justify="left", show_lines=False, expand=False)
    for column in ("", "name", "what is done"):
        table.add_column(column, overflow="fold")
    for one in differences:
        details = [*change_lines(one), *(f"needs you: {problem.code}" for problem in one.problems)]
        table.add_row(Text(one.status, style=_MARKS[one.status]), Text(one.name), Text("\n".join(details)))
    return table


def _names(heading: str, differences: tuple[Difference, ...]) -> Table:
    """Differences about which there is nothing more to say: one row a status."""
    table = Table(title=heading, title_justify="left", expand=False)
    for column in ("", "names"):
        table.add_column(column, overflow="fold")
    for status, style in _MARKS.items():
        names = [one.name for one in differences if one.status == status]
        if names:
            table.add_row(Text(status, style=style), Text(", ".join(names)))
    return table


def _settled_table(report: Report) -> Table:
    table = Table(title="settled by handlers", title_justify="left", expand=False)
    for column in ("what", "where"):
        table.add_column(column, overflow="fold")
    for what, where in report.settled:
        table.add_row(Text(what), Text(where))
    return table


def _problem_table(report: Report) -> Table:
    table = Table(title="needs you", title_justify="left", title_style="bold red", show_lines=True)
    for column in ("code", "where", "why", "what to do"):
        table.add_column(column, overflow="fold")
    for problem in report.problems:
        table.add_row(*(Text(part) for part in (problem.code, problem.path, problem.cause, problem.remedy)))
    return table
