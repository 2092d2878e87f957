"""What handlers read, against what was written; and which handler files depend on the states alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from instar.ext.registry import Handler, Registry
from instar.handlers.inputs import Spans, is_pure


def _u8(*values: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(values, np.uint64)


@pytest.mark.parametrize(
    ("low", "high", "meets"),
    [
        (0, 100, False),
        (0, 101, True),
        (107, 108, True),
        (108, 200, False),
        (299, 301, True),
        (304, 900, False),
    ],
)
def test_spans_meet_where_a_byte_is_shared(low: int, high: int, meets: bool) -> None:
    spans = Spans()
    spans.add_many(_u8(300, 100), 4)
    spans.add(100, 8)
    spans.add(5000, 0)
    assert spans.meets(_u8(low), _u8(high)) == meets
    assert spans.meets(_u8(2000, low), _u8(2008, high)) == meets
    assert not spans.meets(_u8(), _u8())


def test_nothing_read_meets_nothing() -> None:
    assert not Spans().meets(_u8(0), _u8(1 << 40))


@pytest.mark.parametrize(
    ("source", "pure"),
    [
        ("from instar.ext import transform\nimport numpy as np, math\n", True),
        ("from __future__ import annotations\nimport collections.abc\n", True),
        ("import time\n", False),
        ("from time import monotonic\n", False),
        ("import numpy.random\n", False),
        ("from numpy import random\n", False),
        ("import numpy as np\nx = np.random.default_rng()\n", False),
        ("import numpy as np\nx = np.fromfile\n", False),
        ("def f():\n    return open('x').read()\n", False),
        ("f = eval\n", False),
        ("n = 0\ndef f():\n    global n\n    n += 1\n", False),
        ("x = f.__globals__\n", False),
        ("from instar.ext import *\n", False),
        ("from instar.process.memory import Memory\n", False),
        ("import instar.ext.values\n", True),
        ("import numpy as np\nx = np.lib.format.open_memmap\n", False),
        ("from numpy.random import default_rng\n", False),
        ("this is no Python\n", False),
    ],
)
def test_what_a_file_may_depend_on(tmp_path: Path, source: str, pure: bool) -> None:
    path = tmp_path / "handlers.py"
    path.write_text(source)
    assert is_pure(Registry(str(path))) == pure


def test_what_events_learn_may_matter(tmp_path: Path) -> None:
    path = tmp_path / "handlers.py"
    path.write_text("")
    for event, pure in (("quiesced", False), ("before_transfer", False), ("after_transfer", True)):
        handler = Handler("on", event, "", False, lambda: None, path)  # type: ignore[arg-type]
        assert is_pure(Registry(str(path), [handler])) == pure
    assert is_pure(Registry())
    assert not is_pure(Registry(str(tmp_path / "gone")))
