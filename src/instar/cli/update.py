"""`instar update PID NEW`: a running program carried into its next version."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from instar.cli.arguments import parse_argv, parse_pid, parse_positive
from instar.cli.console import open_progress
from instar.cli.failures import as_instar_error, exit_status, print_document, print_error
from instar.cli.report_file import STDOUT, ReportFile, find_report
from instar.cli.wording import count_of, format_bytes, format_ms, printable
from instar.errors import InstarError, UsageError
from instar.update.attempt import Attempt
from instar.update.options import Rehearsal, UpdateOptions
from instar.update.outcome import Kind, UpdateReport
from instar.validation.taint import TaintPolicy

_EXIT = {"updated": 0, "rehearsed": 0, "refused": 3, "rolled-back": 4, "damaged": 5}
_DONE = {"update": "updated", "rollback": "taken back", "rehearsal": "rehearsed"}
_DEFAULTS = UpdateOptions()
_EPILOG = """\
examples:
  instar update 4711 ./server-v2
  instar update $(pidof dnsmasq) /usr/sbin/dnsmasq --max-pause 200
  instar update 4711 ./server-v2 --rehearse --report try.html
  instar update 4711 ./server --argv './server -c /etc/server.conf' --json

The old version serves until the new one has taken over everything; if anything is wrong it goes on as before.
`instar diff PID NEW` shows beforehand what would be done."""


def prepare_parser(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("pid", metavar="PID", type=parse_pid, help="the running program")
    parser.add_argument(
        "new", metavar="NEW", type=Path, help="its next version, a program file built with -g"
    )
    parser.add_argument(
        "--from", dest="core", nargs=2, action=_FromCore, metavar=("CORE", "NEW"),
        help="with --rehearse, in place of PID and NEW: try a core file of the running program (gcore)",
    )  # fmt: skip
    parser.add_argument("--old", metavar="FILE", type=Path, help="with --from: the program of the core")
    add_options(parser)


class _FromCore(argparse.Action):
    """Takes the place of the two positional arguments."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        namespace.core, namespace.new = (Path(word) for word in values)
        for action in parser._actions:
            if action.dest in ("pid", "new"):
                action.required = False


def add_options(parser: argparse.ArgumentParser) -> None:
    """What an update and a rollback have in common."""
    parser.add_argument(
        "--timeout",
        type=parse_positive,
        metavar="S",
        default=_DEFAULTS.timeout,
        help="for the whole update (default %(default)g)",
    )
    parser.add_argument(
        "--start-timeout", type=parse_positive, metavar="S", default=_DEFAULTS.start_timeout,
        help="for the new version's start-up (default %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--max-pause", type=parse_positive, metavar="MS", default=_DEFAULTS.max_pause_ms,
        help="roll back when neither version has served for so long (default %(default)g)",
    )  # fmt: skip
    parser.add_argument("--strict", action="store_true", help="refuse what would only be warned about")
    parser.add_argument(
        "--allow", action="extend", nargs="+", metavar="CODE", default=[],
        help="go on in spite of refusals with these codes (docs/errors.md)",
    )  # fmt: skip
    parser.add_argument(
        "--argv", metavar="'PROGRAM ARGUMENT...'", type=parse_argv,
        help="command line of the new version (default: the old one's, as far as it is still in memory)",
    )  # fmt: skip
    parser.add_argument(
        "--rehearse", action="store_true",
        help="do everything but the last step, then throw the new version away",
    )  # fmt: skip
    parser.add_argument(
        "--hold", nargs="?", const=0.0, type=parse_positive, metavar="S",
        help="with --rehearse: keep the new version for `instar inspect`, until Enter or for S seconds",
    )  # fmt: skip
    parser.add_argument(
        "--handlers", type=Path, metavar="FILE",
        help="what no rule can know, in Python (docs/handlers.md; default: NEW.instar.py if it is there)",
    )  # fmt: skip
    parser.add_argument(
        "--probation", type=parse_positive, metavar="S", default=_DEFAULTS.probation_s,
        help="keep the old version for S seconds: it goes on if the new one fails in that time",
    )  # fmt: skip
    parser.add_argument(
        "--config", type=Path, metavar="FILE",
        help="invariants and filters of the state (docs/validation.md; default: instar.toml beside NEW)",
    )  # fmt: skip
    parser.add_argument(
        "--tainted", type=TaintPolicy.parse, metavar="POLICY", action="append", default=[],
        help="abort: refuse dangling pointers and leaks too; allow=PATH,...: let these words pass; "
        "repair=FILE: repair the state as it goes over",
    )  # fmt: skip
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write a page about it, to look at in a browser (- for standard output)",
    )
    parser.add_argument("--start-as", metavar="USER", help="start the new version as this user")
    parser.add_argument("--quiet", "-q", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Update, write the journal, print the report."""
    options, page = read_options(arguments), find_report(arguments)
    if arguments.core is not None:
        return _rehearse_core(arguments, options, page)
    kind: Kind = "update" if options.rehearsal is None else "rehearsal"
    with Attempt(arguments.pid, kind, handlers=_handler_file(arguments.new, options)) as attempt:
        report, status = guarded(arguments, lambda: carry_over(arguments, arguments.new.absolute(), options))
        report = attempt.record(report)
    return finish(arguments, report, status, page)


def _handler_file(new: Path, options: UpdateOptions) -> Path | None:
    from instar.handlers.module import find_handlers

    return find_handlers(options.handlers, new) if new.name else options.handlers


def _rehearse_core(arguments: argparse.Namespace, options: UpdateOptions, page: ReportFile | None) -> int:
    """Nothing runs that could be updated: no line in the journal."""
    if options.rehearsal is None or options.rehearsal.hold or arguments.pid is not None:
        raise UsageError(
            "usage", "a core file can only be rehearsed", "instar update --from CORE NEW --rehearse"
        )
    from instar.update.core_rehearsal import rehearse_core

    def work() -> UpdateReport:
        with open_progress(quiet=arguments.quiet, to_stderr=stdout_is_taken(arguments)) as progress:
            return rehearse_core(arguments.core, arguments.new.absolute(), arguments.old, options, progress)

    arguments.pid = 0  # of a failure before the core could be read
    report, status = guarded(arguments, work)
    return finish(arguments, report.as_kind("rehearsal"), status, page)


def read_options(arguments: argparse.Namespace) -> UpdateOptions:
    """The options of ``add_options``."""
    return UpdateOptions(
        timeout=arguments.timeout,
        max_pause_ms=arguments.max_pause,
        start_timeout=arguments.start_timeout,
        strict=arguments.strict,
        allow=frozenset(code for word in arguments.allow for code in word.split(",") if code),
        argv=arguments.argv,
        start_as=arguments.start_as,
        handlers=arguments.handlers,
        config=arguments.config,
        tainted=TaintPolicy.join(arguments.tainted),
        rehearsal=_rehearsal(arguments),
        probation_s=arguments.probation,
        compare_code=arguments.report is not None,
    )


def finish(arguments: argparse.Namespace, report: UpdateReport, status: int, page: ReportFile | None) -> int:
    """Write the page, print the report."""
    if page is not None:
        report = page.write(report)
    if arguments.json:
        print_document(report.to_json())
    _print(report, to_stderr=stdout_is_taken(arguments), quiet=arguments.quiet)
    return status


def stdout_is_taken(arguments: argparse.Namespace) -> bool:
    """Whether a document goes to standard output, and everything for people to standard error."""
    return bool(arguments.json or arguments.report == STDOUT)


def _rehearsal(arguments: argparse.Namespace) -> Rehearsal | None:
    if not arguments.rehearse:
        if arguments.hold is not None:
            raise UsageError("usage", "--hold keeps a rehearsed version", "add --rehearse")
        return None
    return Rehearsal(arguments.hold is not None, arguments.hold or None, _announce)


def _announce(pid: int) -> None:
    """The new version is being kept."""
    print(
        f"the old version serves; the new one is kept as process {pid}: try `instar inspect {pid} EXPR`, "
        "end with Enter",
        file=sys.stderr,
        flush=True,
    )


def carry_over(arguments: argparse.Namespace, path: Path, options: UpdateOptions) -> UpdateReport:
    """The update itself, with its progress on the terminal."""
    from instar.update.transaction import update

    with open_progress(quiet=arguments.quiet, to_stderr=stdout_is_taken(arguments)) as progress:
        return update(arguments.pid, path, options, progress)


def guarded(arguments: argparse.Namespace, work: Callable[[], UpdateReport]) -> tuple[UpdateReport, int]:
    """The report and the exit status; every error becomes a report, so that it reaches the journal."""
    try:
        report = work()
    except InstarError as error:
        return UpdateReport.from_error(arguments.pid, error), exit_status(error)
    except (Exception, KeyboardInterrupt) as error:
        if arguments.debug:
            raise
        described = as_instar_error(error)
        status = exit_status(error if isinstance(error, KeyboardInterrupt) else described)
        return UpdateReport.from_error(arguments.pid, described), status
    return report, _EXIT[report.outcome]


def _print(report: UpdateReport, *, to_stderr: bool, quiet: bool) -> None:
    if report.error is not None:
        failure = report.error
        print_error(InstarError(failure.code, failure.cause, failure.remedy, details=failure.details))
        print(_state_line(report), file=sys.stderr)
    elif not (quiet and to_stderr):
        print("\n".join(report_lines(report)), file=sys.stderr if to_stderr else sys.stdout)
    for text in report.warnings if report.error is not None else ():
        print(printable(f"  warning: {text}"), file=sys.stderr)


def _state_line(report: UpdateReport) -> str:
    return {
        "refused": f"  process {report.old_pid} is untouched",
        "rolled-back": f"  process {report.old_pid} serves again as before",
        "damaged": f"  process {report.old_pid} is damaged: restart it",
        "updated": f"  process {report.new_pid} serves",
        "rehearsed": f"  process {report.old_pid} serves as before",
    }[report.outcome]


def report_lines(report: UpdateReport) -> list[str]:
    """A successful update for people."""
    objects = count_of(sum(report.objects.values()), "object")
    pause = f"pause {format_ms(report.pause_ms)} of {format_ms(report.total_ms)}"
    lines = [
        f"{_DONE[report.kind]}: process {report.old_pid} -> {report.new_pid}, {pause}"
        if report.outcome == "updated"
        else f"rehearsed: process {report.old_pid} could be updated and serves as before, {pause}"
        if report.pause_ms
        else f"rehearsed: process {report.old_pid} of the core could be updated",
        f"  {objects} ({_kinds(report)}), {format_bytes(report.bytes)}; "
        f"{report.retyped:,} of another layout, {count_of(report.pointers, 'pointer')}",
        f"  {count_of(report.descriptors, 'descriptor')}, {report.connections:,} of them connections",
    ]
    if report.leaked.blocks:
        left = f"{count_of(report.leaked.blocks, 'block')}, {format_bytes(report.leaked.bytes)}"
        lines.append(f"  left behind, because nothing reaches it: {left}")
    return lines + [printable(f"  warning: {text}") for text in report.warnings]


def _kinds(report: UpdateReport) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in report.objects.items() if count)
