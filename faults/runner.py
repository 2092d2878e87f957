"""Makes one injection after the other: one tool that forks, programs that are used until one was updated."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from faults import files, handlers
from faults.injection import FAILED, describe
from faults.outcome import Result, judge, names_unvalidated, read_report
from faults.subjects import ROOT, Subject
from instar.testing.programs import TalkError

if TYPE_CHECKING:
    from faults.campaign import Fault
    from faults.pace import Pace

_PACE_S = 0.008
_MOST_USES = 40


class Tool:
    """``python -m faults.tool``, asked for one run at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.tool"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
        )  # fmt: skip

    def start(self, request: dict[str, Any]) -> int:
        """Begin a run; returns its process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def fileno(self) -> int:
        """Readable when the run is over."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def status(self) -> int:
        """How the run ended."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Runner:
    """One job of a campaign.

    Args:
        home: For everything that it writes.
        kinds: The programs by name.
        paces: How long things may take, by program.
    """

    def __init__(self, home: Path, kinds: dict[str, type[Subject]], paces: dict[str, Pace]) -> None:
        self._home, self._kinds, self._paces = home, kinds, paces
        self._subjects: dict[str, Subject] = {}
        self._made = 0

    def __enter__(self) -> Self:
        for name in ("cache", "state", "tmp"):
            (self._home / name).mkdir(parents=True)
        self._tool = Tool()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tool.close()
        for subject in self._subjects.values():
            subject.close()

    def run(self, fault: Fault) -> Result:
        """Inject and see what becomes of it."""
        subject = self._subject(fault)
        rng = random.Random(fault.seed)
        work = self._home / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        prepared = self._prepare(fault, rng, subject, work)
        log = work / "log"
        request = self._request(fault, rng, subject, prepared, work, log)
        begun = time.monotonic()
        status, complaints = self._watch(subject, request)
        seconds = time.monotonic() - begun
        report = read_report(work / "output")
        done = [prepared.text] if prepared.text else describe(log)
        if any(text.startswith(FAILED) for text in done):
            raise RuntimeError(f"injection {fault.number}, {fault.place}/{fault.kind}: {done}")
        return self._result(fault, subject, status, report, done, complaints, seconds, work)

    def _subject(self, fault: Fault) -> Subject:
        subject = self._subjects.get(fault.program)
        if subject is None:
            self._made += 1
            kind = self._kinds[fault.program]
            subject = self._subjects[fault.program] = kind(self._home / f"{fault.program}{self._made}")
        subject.work()
        return subject

    def _prepare(self, fault: Fault, rng: random.Random, subject: Subject, work: Path) -> files.Prepared:
        if fault.place == "handler":
            return handlers.prepare(fault.kind, rng, work)
        if fault.place == "input":
            files.copy_cache(self._home / "cache", work)
            shutil.copytree(self._home / "state", work / "state")
            return files.prepare_input(fault.kind, rng, subject, work)
        starts = fault.place == "future" and fault.program == "tables" and fault.kind in files.START_KINDS
        if starts and rng.random() < 0.25:
            return files.prepare_start(fault.kind, subject)
        return files.Prepared()

    def _request(
        self,
        fault: Fault,
        rng: random.Random,
        subject: Subject,
        prepared: files.Prepared,
        work: Path,
        log: Path,
    ) -> dict[str, Any]:
        outside = fault.place in ("handler", "input") or bool(prepared.text)
        own = work if fault.place == "input" else self._home
        new = prepared.new or subject.new
        return {
            "argv": [
                "update",
                str(subject.pid),
                str(new),
                *self._paces[subject.name].options,
                "--json",
                "--quiet",
                *prepared.options,
            ],
            "environment": {
                "XDG_CACHE_HOME": str(own / "cache"),
                "XDG_STATE_HOME": str(own / "state"),
                "TMPDIR": str(self._home / "tmp"),
            },
            "fault": {
                "place": "outside" if outside else fault.place,
                "kind": fault.kind,
                "seed": rng.random(),
                "pid": subject.pid,
            },
            "output": str(work / "output"),
            "errors": str(work / "errors"),
            "log": str(log),
        }

    def _watch(self, subject: Subject, request: dict[str, Any]) -> tuple[int | None, list[str]]:
        """Be a client while the tool runs; None when it had to be ended."""
        import select

        pid = self._tool.start(request)
        complaints: list[str] = []
        end, ended = time.monotonic() + self._paces[subject.name].tool_s, False
        poll = select.poll()
        poll.register(self._tool.fileno(), select.POLLIN)
        while not poll.poll(_PACE_S * 1000):
            if time.monotonic() > end and not ended:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                ended = True
            if not complaints:
                try:
                    subject.work()
                except (TalkError, OSError, ValueError) as error:
                    complaints.append(f"under load: {error or type(error).__name__}")
        status = self._tool.status()
        return (None if ended else status), complaints

    def _result(
        self, fault: Fault, subject: Subject, status: int | None, report: dict[str, Any] | None,
        done: list[str], complaints: list[str], seconds: float, work: Path,
    ) -> Result:  # fmt: skip
        past = subject.pid
        left = subject.settled()
        committed = bool(left) and past not in left
        if report is not None and report.get("outcome") == "updated":
            committed = True
        if left:
            subject.pid = left[0]
        if len(left) == 1 and subject.still_held():
            complaints.append("it is still held")
        if left and not complaints:
            complaints += subject.examine()
        lost = subject.lost_connections() if left else 0
        if committed and left and not complaints and not lost:
            complaints += subject.exhaust()
        outcome = judge(
            status, report, committed=committed, lost=lost, complaints=complaints, alive=len(left) == 1
        )
        if outcome == "silent" and fault.place == "handler" and names_unvalidated(report):
            outcome = "unvalidated"
        if committed or complaints or len(left) != 1 or subject.rounds > 4000:
            subject.close()
            del self._subjects[fault.program]
        error = (report or {}).get("error") or {}
        cause = error.get("cause", "") or (work / "errors").read_text(errors="replace")[-300:]
        return Result(
            fault.number, fault.place, fault.kind, fault.program, outcome, status, error.get("code", ""),
            cause, done, complaints, round(seconds, 3),
        )  # fmt: skip
