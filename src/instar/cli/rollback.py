"""`instar rollback PID`: back to the version before, with the state of now."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from instar.cli.arguments import parse_pid, parse_steps
from instar.cli.report_file import find_report
from instar.cli.update import add_options, carry_over, finish, guarded, read_options
from instar.errors import InstarError
from instar.update.attempt import Attempt
from instar.update.options import UpdateOptions
from instar.update.outcome import Kind, UpdateReport

_EPILOG = """\
examples:
  instar rollback 4711                the version before, with the state of now
  instar rollback 4711 --steps 2
  instar rollback 4711 --rehearse     would it work?

`instar status 4711` lists the versions it can be taken back to."""


def prepare_parser(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("pid", metavar="PID", type=parse_pid, help="the running program")
    parser.add_argument(
        "--steps", type=parse_steps, metavar="N", default=1, help="take back the last N updates (default 1)"
    )
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Find the version, update to it, write the journal, print the report."""
    options, page = read_options(arguments), find_report(arguments)
    if options.handlers is None and _goes_singly(arguments):
        report, status = _go_back_singly(arguments, options)
    else:
        report, status = _step(arguments, options, lambda: _go_back(arguments, arguments.steps, options))
    return finish(arguments, report, status, page)


def _goes_singly(arguments: argparse.Namespace) -> bool:
    from instar.update.rollback import goes_singly

    with suppress(InstarError):  # who goes back is told, and the journal
        return goes_singly(arguments.pid, arguments.steps)
    return False


def _step(
    arguments: argparse.Namespace, options: UpdateOptions, work: Callable[[], UpdateReport], steps: int = 0
) -> tuple[UpdateReport, int]:
    """One attempt, with its line in the journal."""
    kind: Kind = "rollback" if options.rehearsal is None else "rehearsal"
    with Attempt(arguments.pid, kind, steps=steps or arguments.steps) as attempt:
        report, status = guarded(arguments, work)
        return attempt.record(report), status


def _go_back(arguments: argparse.Namespace, steps: int, options: UpdateOptions) -> UpdateReport:
    from instar.update.rollback import find_way_back, handlers_for, require_nothing_lost

    way = find_way_back(arguments.pid, steps)
    handlers = options.handlers or handlers_for(way)
    require_nothing_lost(arguments.pid, way, options.allow, handlers)
    return carry_over(arguments, way.path, replace(options, handlers=handlers, backwards=True))


def _go_back_singly(arguments: argparse.Namespace, options: UpdateOptions) -> tuple[UpdateReport, int]:
    """One update after the other: the handlers of each know its two versions only.

    What can be known of all of them is looked at before the first; each is a transaction of its own, which
    leaves a version that serves with its whole state, also when a later one is refused.
    """
    from instar.update.rollback import require_steps

    done: list[UpdateReport] = []
    for left in range(arguments.steps, 0, -1):
        own = options if left == 1 else replace(options, probation_s=0.0)

        def work(left: int = left, own: UpdateOptions = own) -> UpdateReport:
            if left == arguments.steps:
                require_steps(arguments.pid, left, options.allow)
            return _go_back(arguments, 1, own)

        report, status = _step(arguments, own, work, steps=1)
        done.append(report)
        if report.outcome != "updated" or report.new_pid is None:
            break
        arguments.pid = report.new_pid
    return _join(done, arguments.steps), status


def _join(done: list[UpdateReport], steps: int) -> UpdateReport:
    """The report of the last one, over all that was done."""
    first, last = done[0], done[-1]
    earlier = tuple(text for report in done[:-1] for text in report.warnings)
    last = replace(last, warnings=(*earlier, *last.warnings))
    if last.outcome == "rehearsed":
        return last.with_warning(f"one-by-one: only the first of {steps} steps was rehearsed")
    if last.outcome != "updated":
        if len(done) > 1:
            what = f"{len(done) - 1} of {steps} updates were taken back, process {last.old_pid} serves"
            last = last.with_warning(f"one-by-one: {what}")
        return last
    return replace(
        last,
        old_pid=first.old_pid,
        old=first.old,
        pause_ms=sum(report.pause_ms for report in done),
        total_ms=sum(report.total_ms for report in done),
    ).with_warning(
        f"one-by-one: {steps} updates were taken back one after the other, each with its own pause"
    )
