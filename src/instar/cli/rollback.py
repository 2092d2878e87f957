"""`instar rollback PID`."""

from __future__ import annotations

import argparse
from dataclasses import replace

from instar.cli.arguments import parse_pid, parse_steps
from instar.cli.report_file import find_report
from instar.cli.update import add_options, carry_over, finish, guarded, read_options
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
    options, steps, page = read_options(arguments), arguments.steps, find_report(arguments)
    kind: Kind = "rollback" if options.rehearsal is None else "rehearsal"
    with Attempt(arguments.pid, kind, steps=steps) as attempt:
        report, status = guarded(arguments, lambda: _go_back(arguments, steps, options))
        report = attempt.record(report)
    return finish(arguments, report, status, page)


def _go_back(arguments: argparse.Namespace, steps: int, options: UpdateOptions) -> UpdateReport:
    from instar.update.rollback import find_way_back, handlers_for, require_nothing_lost

    way = find_way_back(arguments.pid, steps)
    handlers = options.handlers or handlers_for(way)
    require_nothing_lost(arguments.pid, way, options.allow, handlers)
    return carry_over(arguments, way.path, replace(options, handlers=handlers, backwards=True))
