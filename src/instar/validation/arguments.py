"""Texts of argv and environment that the state points at: the future was started with its own. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from instar.pairing.problems import Problem
from instar.state.columns import FixedKind, Status
from instar.transfer.planner import Planner

Array = np.ndarray[Any, np.dtype[Any]]
Read = Callable[[int, int], bytes]

CODE = "argument-changed"
_REMEDY = f"start the new version with the same ones (--argv), or pass --allow {CODE}"


def changed_arguments(
    planner: Planner, read_past: Read, read_future: Read, path: Callable[[int, int], str]
) -> list[Problem]:
    """Pointers to a text that reads otherwise in the future.

    Args:
        planner: Its plan was carried out.
        read_past, read_future: Memory of both.
        path: Names a word: (object row, offset).
    """
    fixed = planner.engine.fixed
    texts = fixed[(fixed["kind"] == FixedKind.ARGUMENT) & (fixed["new_start"] != 0)]
    area = planner.past.arguments
    vectors = area.pointers[0], area.environment_pointers
    texts = texts[~np.isin(texts["start"], np.array(vectors, dtype=np.uint64))]  # words, no texts
    if not len(texts):
        return []
    low, high = int(texts["new_start"].min()), int((texts["new_start"] + texts["end"] - texts["start"]).max())
    future, found = read_future(low, high - low), []
    words = planner.scanned.words
    for row in texts:
        size, at = int(row["end"]) - int(row["start"]), int(row["new_start"]) - low
        old, new = read_past(int(row["start"]), size), future[at : at + size]
        if old == new:
            continue
        leads = (words["value"] >= row["start"]) & (words["value"] < row["end"])
        for word in words[leads & (words["status"] == Status.MOVED)][:1]:
            where = path(int(word["object"]), int(word["offset"]))
            cause = f"{where} leads to {_text(old)}, an argument or variable of the old version's start"
            cause += f"; the new one's is {_text(new)}"
            found.append(Problem(CODE, where, cause, _REMEDY))
    return found


def _text(data: bytes) -> str:
    return repr(data.rstrip(b"\0").decode(errors="backslashreplace"))
