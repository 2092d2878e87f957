"""C parts of the runtime alone: the block table under the sanitizers, the layouts shared with Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from instar.control import gate, runtime, streams
from instar.heap import inherited

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "native" / "runtime"
COMMON = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", f"-I{ROOT / 'native' / 'include'}"]


def compile_test(output: Path, *flags: str) -> Path:
    sources = [ROOT / "tests/native/test_blocks.c", RUNTIME / "ranges.c", RUNTIME / "blocks.c"]
    command = ["gcc", *COMMON, *flags, "-o", str(output), *map(str, sources), "-lpthread"]
    subprocess.run(command, check=True)
    return output


@pytest.fixture(scope="module", params=["address,undefined", "thread"])
def sanitized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("blocks") / "test_blocks"
    return compile_test(output, f"-fsanitize={request.param}", "-fno-sanitize-recover=all")


@pytest.mark.parametrize(("seed", "threads"), [(1, 0), (2, 1), (3, 4), (4, 8)])
def test_block_table_agrees_with_the_model(sanitized: Path, seed: int, threads: int) -> None:
    # The thread sanitizer needs its fixed address layout.
    command = ["setarch", "-R", str(sanitized), str(seed), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


STRUCTS = {
    "instar_block": inherited.NARROW_BLOCK,
    "instar_wide_block": inherited.WIDE_BLOCK,
    "instar_range": inherited.RANGE,
    "instar_gate": inherited.GATE,
    "instar_gate_signal": gate.SIGNAL,
    "instar_runtime_state": inherited.STATE,
    "instar_range_request": runtime.REQUEST,
    "instar_epoll_item": runtime.EPOLL_ITEM,
    "instar_lock": runtime.LOCK,
    "instar_stream": streams.STREAM,
}


def test_layouts_are_those_of_the_header(tmp_path: Path) -> None:
    lines = []
    for name, dtype in STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        for field in dtype.names or ():
            lines.append(f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));')
    lines.append('printf("magic %lu\\n", INSTAR_RUNTIME_MAGIC);')
    lines.append('printf("version %u\\n", INSTAR_RUNTIME_VERSION);')
    lines.append('printf("gate_offset %zu\\n", offsetof(struct instar_runtime_state, gate));')
    lines.append('printf("intent_offset %zu\\n", offsetof(struct instar_gate, intent));')
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stdio.h>\n#include <stddef.h>\n#include <instar_runtime.h>\nint main(void){"
        + "\n".join(lines)
        + "}"
    )
    program = tmp_path / "layout"
    subprocess.run(["gcc", *COMMON, "-o", str(program), str(source)], check=True)
    output = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    found = {key: int(value) for key, value in (line.split() for line in output.splitlines())}
    expected = {"magic": inherited.MAGIC, "version": inherited.VERSION}
    expected |= {"gate_offset": inherited.GATE_OFFSET, "intent_offset": inherited.INTENT_OFFSET}
    for name, dtype in STRUCTS.items():
        expected[name] = dtype.itemsize
        fields = np.dtype(dtype).fields
        assert fields is not None
        expected |= {f"{name}.{field}": entry[1] for field, entry in fields.items()}
    assert found == expected
