"""One program under update: updated by the real command, asked from outside, watched for leftovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from instar.testing.programs import Program, TalkError, find_marked, wait_until_gone

INSTAR = Path(sys.executable).parent / "instar"
SCHEMA = Path(__file__).parents[2] / "docs" / "update.schema.json"
MARK = "INSTAR_TEST_PROGRAM"
TOOL_S = 120.0
PATIENT = "--max-pause", "30000"  # a busy machine is no finding
_TRIES = 5


@cache
def validator() -> jsonschema.Draft202012Validator:
    """The published schema of the report."""
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


@dataclass(frozen=True)
class Update:
    """What a run of `instar update --json` left: its exit status and outputs.

    Attributes:
        status: Negative: killed by that signal.
        report: None when the tool was killed.
    """

    status: int
    report: dict[str, Any] | None
    stderr: str

    @property
    def whole(self) -> dict[str, Any]:
        """The report, which must be there."""
        assert self.report is not None, self.stderr
        return self.report

    @property
    def outcome(self) -> str:
        """Of the report."""
        return str(self.whole["outcome"])

    def told(self) -> str:
        """Everything that the refusal says, for comparing and for messages."""
        assert self.report is not None, self.stderr
        error = self.report["error"]
        if error is None:
            return f"{self.outcome}; warnings {self.report['warnings']}"
        return " | ".join([f"[{error['code']}]", error["cause"], error["remedy"], *error["details"]])


class Service:
    """A running program and its successors; exactly one of them answers at any time.

    Args:
        program: Version 1.
        arguments, environment: It is started with these.
        home: A directory of its own: for the journal of the tool, and where the program runs.
        cache: For what the tool keeps about versions.

    Attributes:
        announced: How often a new version has said that it is ready.
    """

    def __init__(
        self,
        program: Path,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        home: Path,
        cache: Path,
    ) -> None:
        self.home = home
        self._mark = uuid.uuid4().hex
        for place in ("run", "tmp"):
            (home / place).mkdir(parents=True, exist_ok=True)
        self._tool_environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(cache),
            "XDG_STATE_HOME": str(home / "state"),
            "TMPDIR": str(home / "tmp"),
        }
        self.program = Program(
            [program, *arguments],
            environment={**os.environ, **(environment or {}), MARK: self._mark},
            directory=home / "run",
        )
        self.pid = self.program.pid
        self.announced = 0
        self._tools: list[subprocess.Popen[str]] = []
        self._gone = False

    def tool(
        self, path: Path, *options: str, environment: Mapping[str, str] | None = None, **popen: Any
    ) -> subprocess.Popen[str]:
        """Start `instar update` on the version that serves now."""
        words = "update", str(self.pid), str(path), *PATIENT, *options
        return self.start(*words, environment=environment, **popen)

    def start(
        self, *words: str, environment: Mapping[str, str] | None = None, **popen: Any
    ) -> subprocess.Popen[str]:
        """Start a verb with `--json`."""
        tool = subprocess.Popen(
            [str(INSTAR), *words, "--json"],
            stdin=popen.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self._tool_environment, **(environment or {})},
            **popen,
        )
        self._tools.append(tool)
        return tool

    def update(
        self, path: Path, *options: str, environment: Mapping[str, str] | None = None, **popen: Any
    ) -> Update:
        """Update to the program at ``path``; afterwards ``pid`` is the process that serves."""
        return self._finish(self.tool(path, *options, environment=environment, **popen))

    def update_churning(self, path: Path) -> Update:
        """The same for a program whose memory is full of pieces of old pointers. One may look like a pointer
        with a tag: that is refused by name, and is gone a moment later, or is left as it is on request."""
        for left in reversed(range(_TRIES)):
            update = self.update(path, *(() if left else ("--allow", "unexplained-word")))
            if update.outcome != "refused" or not update.told().startswith("[unexplained-word]"):
                break
        return update

    def rollback(self, *options: str) -> Update:
        """Take back the last update; afterwards ``pid`` is the process that serves."""
        return self._finish(self.start("rollback", str(self.pid), *options))

    def status(self, *words: str) -> list[dict[str, Any]]:
        """What `instar status` tells."""
        tool = self.start("status", *words)
        stdout, stderr = tool.communicate(timeout=TOOL_S)
        assert tool.returncode == 0, stderr
        found: list[dict[str, Any]] = json.loads(stdout)["processes"]
        return found

    def _finish(self, tool: subprocess.Popen[str]) -> Update:
        try:
            stdout, stderr = tool.communicate(timeout=TOOL_S)
        except BaseException:
            tool.kill()
            tool.communicate()
            raise
        return self.finished(tool.returncode, stdout, stderr)

    def finished(self, status: int, stdout: str, stderr: str) -> Update:
        """Understand what a tool left; follows to the new process."""
        if not stdout:
            assert status < 0, f"status {status} without a report: {stderr}"
            return Update(status, None, stderr)
        report = json.loads(stdout)
        validator().validate(report)
        if report["outcome"] == "updated":
            self._follow(report["new_pid"])
        elif report["kind"] == "rollback" and report["old_pid"] not in (0, self.pid):  # some steps were made
            self._follow(report["old_pid"])
        return Update(status, report, stderr)

    def _follow(self, pid: int) -> None:
        """The old process must have ended by itself, with status 0."""
        if self.pid == self.program.pid:
            assert self.program.process.wait(20) == 0, "the old version did not end by exit_group(0)"
        else:
            assert wait_until_gone(self.pid), f"process {self.pid} is still there"
        self.pid = pid

    def ask(self, command: str) -> str:
        """Say a line to whoever serves. What a new version printed at start is held back until the commit."""
        answer = self.program.talk.ask(command)
        while answer == "ready":
            self.announced += 1
            answer = self.program.talk.line()
        return answer

    def processes(self) -> list[int]:
        """All living processes of this service, whatever version they are of."""
        return [pid for pid in find_marked(MARK, self._mark) if not _is_zombie(pid)]

    def descriptors(self) -> dict[int, str]:
        """Descriptors of the process that serves."""
        return {int(path.name): str(path.readlink()) for path in Path(f"/proc/{self.pid}/fd").iterdir()}

    def close(self) -> None:
        """End it by its input; what does not end is killed and is an error."""
        if self._gone:
            return
        self._gone = True
        for tool in self._tools:
            if tool.poll() is None:
                tool.kill()
            tool.communicate()
        self.program.end_input()
        stubborn = [pid for pid in self.processes() if not wait_until_gone(pid, 10)]
        for pid in stubborn:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.program.close()
        if stubborn:
            raise TalkError(f"processes {stubborn} outlived their input")


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
