"""The kernels once more under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "tests" / "unit"
RUN = """
import sys
from pathlib import Path
import instar.native
instar.native.library_path = lambda name: Path(sys.argv[1])
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *sys.argv[2:]]))
"""
TESTED = (
    "transfer/test_translate.py",
    "transfer/test_convert.py",
    "transfer/test_plan_pieces.py",
    "state/test_typing.py",
    "validation/test_reversed.py",
    "heap/test_walk.py",
)


def test_kernels_under_sanitizers(tmp_path: Path) -> None:
    library = tmp_path / "libinstar-kernels.so"
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True
    ).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("gcc has no AddressSanitizer here")
    sources = sorted((ROOT / "native" / "kernels").glob("*.c"))
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-std=c11", "-D_GNU_SOURCE"]
    subprocess.run(
        ["gcc", "-O1", "-g", *flags, "-shared", "-fPIC", "-o", library, *sources, "-lm"], check=True
    )
    command = [sys.executable, "-c", RUN, str(library), *(str(UNIT / name) for name in TESTED)]
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert "passed" in done.stdout
