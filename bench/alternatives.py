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
        f"update of {count:,} blocks", pause, "ms", restart, "stop, start, fill again", 1.0,
        f"restart {restart:.0f} ms, and every connection is lost",
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
    with tempfile.TemporaryDirectory() as images, store("blocks", f"{count} 100") as one:
        seconds, problem = _dump_and_restore(tool, one.pid, Path(images))
    if problem:
        yield Row("CRIU", 0.0, "", note=f"not measured: {problem}")
        return
    yield Row(f"update of {count:,} blocks", pause, "ms", seconds * 1e3, "CRIU dump and restore", 1.0)


def _dump_and_restore(tool: str, pid: int, images: Path) -> tuple[float, str]:
    common = ["-D", str(images), "--shell-job", "-v0"]
    started = time.perf_counter()
    for command in (["dump", "-t", str(pid)], ["restore", "-d"]):
        done = subprocess.run([tool, *command, *common], capture_output=True, text=True)
        if done.returncode:
            return 0.0, f"criu {command[0]}: {done.stderr.strip().splitlines()[-1:] or done.returncode}"
    return time.perf_counter() - started, ""
