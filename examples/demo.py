"""Update a server under a thousand clients: `make demo`.

Starts hallway version 1, connects the clients, keeps all of them busy while `instar update` carries the
server into version 2, then asks every client on its own connection whether anything was lost. The last line
sums up; the exit status is 0 only if every client was kept and nothing went wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from instar.testing.programs import Program, find_marked, wait_until_gone

sys.path.insert(0, str(Path(__file__).parent))
from crowd import Client, Crowd

HERE = Path(__file__).parent
INSTAR = Path(sys.executable).parent / "instar"
MARK = "HALLWAY_DEMO"
SPARE_FILES = 100
UPDATE_S = 120.0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Update a server under load and see that nothing is lost.")
    parser.add_argument("--clients", type=int, default=1000, help="connections (default %(default)s)")
    parser.add_argument("--rate", type=int, default=2000, help="commands a second (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of load before and after (default 1)")
    parser.add_argument("--report", metavar="FILE", type=Path, help="write the page of the update")
    return parser.parse_args()


class Stage:
    """Where the demo tells what happens."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    @contextmanager
    def step(self, text: str) -> Iterator[list[str]]:
        """Show a step while it runs, then one line with the figures put into the list."""
        figures: list[str] = []
        with self.console.status(escape(text)):
            yield figures
        self.console.print(
            f"[green]✓[/] {escape(text)}" + "".join(f", [bold]{escape(f)}[/]" for f in figures)
        )


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def allow_files(count: int) -> None:
    """Raise the limit of open files; fails with a plain message where that is not allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SystemExit(
            f"demo: {count} open files are needed, the hard limit is {hard}: use fewer --clients"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Server:
    """hallway under update, whichever process it is at the moment."""

    def __init__(self, home: Path) -> None:
        self.home, self.log = home, home / "hallway.log"
        self.port = free_port()
        self._mark = uuid.uuid4().hex
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": str(home / "cache"),
        }
        self.program = Program(
            [program("v1"), str(self.port), self.log], environment={**os.environ, MARK: self._mark}
        )
        self.pid = self.program.pid

    async def update(self, page: Path | None) -> tuple[dict[str, Any], str]:
        """Run `instar update`; the report, and what it said to people. The page of it goes to a file."""
        words = ["--report", str(page)] if page is not None else []
        tool = await asyncio.create_subprocess_exec(
            INSTAR, "update", str(self.pid), program("v2"), "--json", *words,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(tool.communicate(), UPDATE_S)
        except TimeoutError:
            tool.kill()
            raise SystemExit(f"demo: `instar update` took more than {UPDATE_S:g} s") from None
        if not out:
            raise SystemExit(f"demo: `instar update` gave no report: {err.decode()}")
        report: dict[str, Any] = json.loads(out)
        self.pid = report["new_pid"] or self.pid
        return report, err.decode()

    def end(self) -> None:
        """Ask it to stop, and wait until it has written its log."""
        os.kill(self.pid, signal.SIGTERM)
        wait_until_gone(self.pid)

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        for pid in find_marked(MARK, self._mark):
            os.kill(pid, signal.SIGKILL)
            wait_until_gone(pid)
        self.program.close()


def program(version: str) -> str:
    """Where examples/Makefile puts a version."""
    return str(HERE / "build" / version / "hallway")


def build() -> None:
    """Compile both versions."""
    subprocess.run(["make", "-C", str(HERE), "--silent"], check=True)


def old_questions(client: Client) -> Iterator[tuple[str, str]]:
    """What every client asks of either version: its session and its data."""
    client.commands += 1  # the server counts the command before it answers
    identity = client.identity()
    client.commands -= 1
    yield "WHOAMI", re.escape(identity)
    client.fetches += 1
    yield f"GET key-{client.number}", re.escape(f"value {client.value}")


def new_questions(client: Client) -> Iterator[tuple[str, str]]:
    """What every client asks of version 2: in addition the command that version 1 did not have."""
    yield from old_questions(client)
    yield f"SET key-{client.number} last", "stored"
    yield f"INFO key-{client.number}", f"info {client.fetches} fetches, [1-9][0-9]* changes"


def lost_from_log(log: Path, crowd: Crowd) -> int:
    """Lines that the log should have, once each, and does not; the buffer of its stream was carried too."""
    lines = log.read_text().splitlines()
    commands = sum(client.commands for client in crowd.clients)
    wanted = [f"session {client.session} opened" for client in crowd.clients]
    wanted.append(f"stopped after {commands} commands")
    return sum(lines.count(line) != 1 for line in wanted)


async def perform(stage: Stage, server: Server, arguments: argparse.Namespace) -> bool:
    """Everything between the server's start and its end; whether all is well."""
    crowd = Crowd(arguments.clients, server.port, arguments.rate)
    try:
        with stage.step(f"{arguments.clients:,} clients connect to version 1, process {server.pid}"):
            await crowd.connect()
            await crowd.clients[0].ask("INFO key-0", lambda line: line == "error unknown command")
        with stage.step(f"load of {arguments.rate:,} commands a second") as figures:
            crowd.begin_load()
            await asyncio.sleep(arguments.seconds)
            figures.append(f"longest wait {crowd.longest_wait_ms():.0f} ms")
        crowd.forget_waits()
        with stage.step("instar update, under that load") as figures:
            report, told = await server.update(arguments.report)
            figures.append(f"{report['total_ms'] / 1000:.2f} s in all")
            figures.append(f"{sum(report['objects'].values()):,} objects")
        await asyncio.sleep(arguments.seconds)
        await crowd.end_load()
        wait_ms = crowd.longest_wait_ms()
        with stage.step("every client asks for its session and its data, and uses the new command"):
            await crowd.chat()
            kept = await crowd.kept(new_questions if report["new_pid"] else old_questions)
        server.end()
        if lost := lost_from_log(server.log, crowd):
            crowd.errors["lines of the log are missing or doubled"] += lost
        return _sum_up(stage, crowd, report, told, kept, wait_ms)
    finally:
        crowd.close()


def _sum_up(stage: Stage, crowd: Crowd, report: dict[str, Any], told: str, kept: int, wait_ms: float) -> bool:
    errors = sum(crowd.errors.values())
    for text, count in crowd.errors.most_common(5):
        stage.console.print(f"[red]✗[/] {count:,} x {escape(text)}")
    if report["outcome"] != "updated":
        print(told, file=sys.stderr)
    counts = f"{kept} of {crowd.size} clients kept, {errors} errors"
    times = f"pause {report['pause_ms']:.0f} ms (longest wait of a client {wait_ms:.0f} ms)"
    made = "updated v1 -> v2" if report["outcome"] == "updated" else f"{report['outcome']}, v1 serves"
    print(f"{made}: {counts}, {times}")
    return report["outcome"] == "updated" and kept == crowd.size and not errors


def main() -> int:
    """Build, start, perform, clean up."""
    arguments = parse_arguments()
    stage = Stage()
    allow_files(arguments.clients + SPARE_FILES)
    with stage.step("both versions of hallway built"):
        build()
    with tempfile.TemporaryDirectory(prefix="hallway-") as directory:
        server = Server(Path(directory))
        try:
            return 0 if asyncio.run(perform(stage, server, arguments)) else 1
        finally:
            server.close()


if __name__ == "__main__":
    sys.exit(main())
