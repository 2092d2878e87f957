"""Updates every server that this directory knows, in every way it can be started, and prints a table.

    python -m tests.real.survey [NAME ...] [--markdown FILE]

Each is updated to itself and to its new version, under load, with its state checked from outside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.builds import Pair, build_pair
from tests.real.distribution import UnavailableError
from tests.real.gateways import Bitlbee, Pgbouncer
from tests.real.message_bus import Dbus
from tests.real.more_servers import MORE
from tests.real.other_servers import OTHERS
from tests.real.relays import Pen, Rinetd
from tests.real.servers import INSTAR, Server
from tests.real.subject import Subject, under_load
from tests.real.tunnels import Xl2tpd
from tests.real.web_servers import Lighttpd, MiniHttpd, Nginx

_WEB: tuple[type[Subject], ...] = (Nginx, Lighttpd, MiniHttpd)
_UNSEEN: tuple[type[Subject], ...] = (Pen, Rinetd, Xl2tpd, Bitlbee, Pgbouncer)
SUBJECTS: tuple[type[Subject], ...] = (*_WEB, Dbus, *OTHERS, *MORE, *_UNSEEN)


@dataclass(frozen=True)
class Row:
    """One update.

    Attributes:
        move: "itself" or "new".
        outcome: Of the update; "lost" where the state was not whole afterwards.
        text: What was refused and why, or figures.
    """

    server: str
    version: str
    mode: str
    move: str
    outcome: str
    pause_ms: float | None
    text: str


def survey(subject: type[Subject]) -> Iterable[Row]:
    """All updates of one server."""
    try:
        pair = build_pair(subject.recipe, *subject.states)
    except UnavailableError as error:
        yield Row(subject.__name__, "", "", "", "no source", None, str(error))
        return
    for mode in subject.modes:
        for move in ("itself", "new"):
            yield _try(subject, pair, mode, move)


def _try(subject: type[Subject], pair: Pair, mode: str, move: str) -> Row:
    with tempfile.TemporaryDirectory(prefix="instar-survey-") as directory:
        place = subject(Path(directory), mode)
        server = Server(place.command(pair.old), place.pid_file, place.ready)
        try:
            place.populate()
            report, raised = _update(server, place, pair.old if move == "itself" else pair.new)
            raised += _checked(place)
        finally:
            place.close()
            server.stop()
    outcome = "lost" if raised else report["outcome"]
    text = "; ".join([_describe(report), *map(_where, raised)])
    return Row(subject.__name__.lower(), pair.package.version, mode, move, outcome, report["pause_ms"], text)


def _where(error: BaseException) -> str:
    """What went wrong in the client, and in which line."""
    line = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {error} ({line.name}: {line.line})"


def _update(server: Server, place: Subject, new: Path) -> tuple[dict[str, Any], list[BaseException]]:
    with under_load(place) as raised:
        done = subprocess.run(
            [str(INSTAR), "update", str(server.pid), str(new), "--json", *place.options],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    report: dict[str, Any] = json.loads(done.stdout)
    if report["new_pid"]:
        server.pid = report["new_pid"]
    if report["outcome"] != "updated":
        print(json.dumps(report["error"], indent=1), file=sys.stderr)
    return report, raised


def _checked(place: Subject) -> list[BaseException]:
    try:
        place.check()
    except (OSError, AssertionError, ValueError) as error:
        return [error]
    return []


def _describe(report: dict[str, Any]) -> str:
    if report["error"]:
        return f"{report['error']['code']}: {report['error']['cause']}"
    return (
        f"{sum(report['objects'].values())} objects, {report['retyped']} retyped, "
        f"{report['connections']} connections, {len(report['warnings'])} warnings"
    )


def main() -> int:
    """Run; exit status 1 where state was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    arguments = parser.parse_args()
    rows = []
    for subject in SUBJECTS:
        if arguments.names and subject.__name__.lower() not in arguments.names:
            continue
        for row in survey(subject):
            rows.append(row)
            pause = "" if row.pause_ms is None else f"{row.pause_ms:.1f} ms"
            print(
                f"{row.server:10} {row.mode:10} {row.move:7} {row.outcome:11} {pause:9} {row.text}",
                flush=True,
            )
    if arguments.markdown:
        arguments.markdown.write_text(_markdown(rows))
    return any(row.outcome in ("lost", "damaged") for row in rows)


def _markdown(rows: list[Row]) -> str:
    lines = ["| server | started | to | result | pause | |", "|---|---|---|---|---|---|"]
    for row in rows:
        pause = "" if row.pause_ms is None else f"{row.pause_ms:.0f} ms"
        lines.append(
            f"| {row.server} {row.version} | {row.mode} | {row.move} | {row.outcome} | {pause} | {row.text} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
