"""Reading a version: nginx at -O2 without a cache and from it, against readelf and gdb on the same file.

The source comes from the distribution's archive; without one a generated program of the same size is read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.real.distribution import UnavailableError, fetch

from bench.measure import BUILD, Row

COLD_LIMIT_MS, CACHED_LIMIT_MS = 600.0, 50.0
MODULES = """
http_v2 http_realip http_dav http_flv http_mp4 http_gunzip http_gzip_static http_auth_request
http_random_index http_secure_link http_slice http_stub_status http_addition http_sub stream_realip
"""
# Runs in a process of its own, so that nothing is warm but the file system's cache.
PROBE = """
import json, sys, time
from pathlib import Path
from instar.metadata.version import load_version, walk_files
from instar.update.reading import walk_confined
program, cache = Path(sys.argv[1]), Path(sys.argv[2])
times = []
for name, walk in ("confined", walk_confined), ("confined", walk_confined), ("itself", walk_files):
    started = time.perf_counter()
    version = load_version(program, cache=cache / name, walk=walk)
    times.append((time.perf_counter() - started) * 1e3)
rows = {name: len(column) for name, column in version.columns.items()}
print(json.dumps({"cold": times[0], "cached": times[1], "itself": times[2], "rows": rows}))
"""


def run(*, quick: bool) -> Iterator[Row]:
    try:
        name, program = "nginx -O2", _nginx()
    except (UnavailableError, subprocess.CalledProcessError) as error:
        name, program = f"generated program (no nginx: {error})", _generated()
    probes = [_probe(program) for _ in range(3 if quick else 7)]
    cold, cached, itself = (min(probe[key] for probe in probes) for key in ("cold", "cached", "itself"))
    rows = probes[0]["rows"]
    size = ", ".join(f"{rows[key]} {key}" for key in ("units", "types", "variables", "functions", "locals"))
    yield Row(f"{name}, read without a cache", cold, "ms", COLD_LIMIT_MS, "0.6 s", 1.0, size)
    yield Row(f"{name}, read from the cache", cached, "ms", CACHED_LIMIT_MS, "50 ms", 1.0)
    yield Row(f"{name}, read by a process without rights", cold, "ms", itself, "by the tool itself", None)
    readelf = _time("readelf", "--debug-dump=info", str(program))
    gdb = _time("gdb", "-nx", "-batch", "-ex", "info types .", "-ex", "info variables .", str(program))
    yield Row(f"{name}, read without a cache", cold, "ms", readelf, "readelf --debug-dump=info", None)
    yield Row(f"{name}, read without a cache", cold, "ms", gdb, "gdb, info types and variables", None)


def _probe(program: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-c", PROBE, str(program), cache], stdout=subprocess.PIPE, check=True
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _time(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1e3


def _nginx() -> Path:
    """Build once, kept below .cache."""
    target = BUILD / "nginx"
    program = target / "objs" / "nginx"
    if not program.exists():
        package = fetch("nginx")
        BUILD.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            package.unpack(target, None)
        options = [f"--with-{module}_module" for module in MODULES.split()]
        options += ["--with-debug", "--with-stream", "--with-mail", "--with-threads"]
        options += ["--without-http_rewrite_module", "--with-cc-opt=-g -O2"]
        _quiet(["./configure", *options], target)
        _quiet(["make", f"-j{os.cpu_count() or 1}"], target)
    return program


def _quiet(command: list[str], directory: Path) -> None:
    subprocess.run(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def _generated(units: int = 157, structs: int = 300) -> Path:
    """Units that share a large header, each with functions and statics of its own."""
    target = BUILD / "generated"
    program = target / "program"
    if program.exists():
        return program
    target.mkdir(parents=True, exist_ok=True)
    header = ["struct s0 { int a; };"]
    for number in range(1, structs):
        before = f"struct s{number - 1}"
        header.append(
            f"struct s{number} {{ {before} *next; {before} inner[1]; int (*call)({before} *, int); "
            f"unsigned flag : {number % 30 + 1}; char name[{number}]; }};"
        )
    (target / "all.h").write_text("\n".join(header))
    sources = []
    for unit in range(units):
        functions = [
            f"static int v{n}; int f{unit}_{n}(struct s{n} *p, int x) "
            f"{{ for (int i = 0; i < x; i++) x += p->flag * i; return v{n} += x; }}"
            for n in range(1, 12)
        ]
        (target / f"u{unit}.c").write_text('#include "all.h"\n' + "\n".join(functions))
        sources.append(f"u{unit}.c")
    (target / "main.c").write_text("int main(void) { return 0; }\n")
    _quiet(
        ["gcc", "-g", "-O2", "-fno-eliminate-unused-debug-types", *sources, "main.c", "-o", "program"], target
    )
    return program
