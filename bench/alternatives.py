"""What a user would do instead: stop and start again and load anew; CRIU's dump and restore."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Row, Store, program, store, update


def run(*, quick: bool) -> Iterator[Row]:
    count = 100_000 if quick else 1_000_000
    with store("blocks", f"{count} 100") as one:
        pause = update(one.pid, program("blocks", 2)).pause
    restart = _restart(count)
    yield Row(
        f"update of {count:,} blocks", pause, "ms", restart, "stop, start, fill again",
        note=f"restart {restart:.0f} ms; every connection and all that is not on disk is lost",
    )  # fmt: skip
    yield from _criu(count, pause)


def _restart(count: int) -> float:
    with store("blocks", f"{count} 100") as one:
        started = time.perf_counter()
        os.kill(one.pid, signal.SIGKILL)
    fresh = Store("blocks", 2)
    fresh.ask(f"fill {count} 100")
    seconds = time.perf_counter() - started
    fresh.stop()
    return seconds * 1e3


def _criu(count: int, pause: float) -> Iterator[Row]:
    tool = os.environ.get("INSTAR_CRIU") or shutil.which("criu")
    if tool is None:
        yield Row("CRIU", 0.0, "", note="not measured: criu is not installed (INSTAR_CRIU=path to give one)")
        return
    problem = _why_not(tool)
    if not problem:
        with tempfile.TemporaryDirectory() as images, store("blocks", f"{count} 100") as one:
            seconds, problem = _dump_and_restore(tool, one.pid, Path(images))
    if problem:
        yield Row("CRIU", 0.0, "", note=f"not measured: {problem}")
        return
    yield Row(f"update of {count:,} blocks", pause, "ms", seconds * 1e3, "CRIU dump and restore", 1.0)


def _why_not(tool: str) -> str:
    """Why CRIU cannot work on this machine, "" if it can (its own check; needs root)."""
    try:
        done = subprocess.run([tool, "check", "-v1"], capture_output=True, text=True)
    except OSError as error:
        return f"{tool}: {error.strerror}"
    return f"criu check: {_first_error(done)}" if done.returncode else ""


def _first_error(done: subprocess.CompletedProcess[str]) -> str:
    """The first line with a reason; later ones only say that it was given up."""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
    reasons = [line for line in lines if "exited, status" not in line]
    return (reasons or lines or [f"exit status {done.returncode}"])[0].strip()


def _dump_and_restore(tool: str, pid: int, images: Path) -> tuple[float, str]:
    common = ["-D", str(images), "--shell-job", "-v1"]
    started = time.perf_counter()
    for command in (["dump", "-t", str(pid)], ["restore", "-d"]):
        done = subprocess.run([tool, *command, *common], capture_output=True, text=True)
        if done.returncode:
            return 0.0, f"criu {command[0]}: {_first_error(done)}"
    return time.perf_counter() - started, ""
