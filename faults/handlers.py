"""Handlers that are wrong: with the checks that a careful user gives them, and with none.

A value that a handler makes is its author's: no rule knows a better one. What can be known is whether it
contradicts the backward half, the check, or an invariant of the state. A handler with none of them is
refused, unless that is allowed: then nothing can find what it does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from faults.files import Prepared

_HANDLER = """from instar.ext import transform
keep = []
@transform("struct entry.share")
def share(value, old, new):
    {before}
    result = value
    {after}
    return result
"""
_BACKWARD = """@share.backward
def share_back(value):
    return value
"""
_CHECK = """@share.check
def share_check(value, made):
    return made == value
"""
_BATCH = """from instar.ext import transform
@transform("struct pair", batch=True)
def pairs(old, new):
    for name in ("first", "second"):
        new[name] = 0
        new[name]{place} = old[name]{place}
"""
_BATCH_BACKWARD = """@pairs.backward
def pairs_back(old, new):
    for name in ("first", "second"):
        new[name] = old[name]
"""
_BATCH_CHECK = """@pairs.check
def pairs_check(old, new):
    return (old["first"] == new["first"]) & (old["second"] == new["second"])
"""
_INVARIANTS = """[invariants]
shares = 'all(e.share * 2 == e.key for e in list(oldest, "newer"))'
fixed = "all(p.first + p.second == 121 for p in fixed)"
pairs = "all(pairs[i].first + pairs[i].second >= 101 for i in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])"
"""


def _handler(before: str = "pass", after: str = "pass") -> str:
    return _HANDLER.format(before=before, after=after)


def _raising(rng: random.Random) -> str:
    error = rng.choice(
        ("ValueError('no')", "MemoryError()", "KeyboardInterrupt()", "SystemExit(0)", "OSError(28, 'full')")
    )
    return _handler(f"if old.key % 97 == {rng.randrange(97)}: raise {error}")


def _hanging(rng: random.Random) -> str:
    what = rng.choice(("while True: pass", "__import__('time').sleep(1000)", "sum(range(1 << 62))"))
    return _handler(f"if old.key % 97 == {rng.randrange(97)}:\n        {what}")


def _hungry(rng: random.Random) -> str:
    return _handler(
        f"if old.key % 97 == {rng.randrange(97)}:\n        while True: keep.append(bytearray(1 << 24))"
    )


def _mutating(rng: random.Random) -> str:
    what = rng.choice(("old.key = 7", "old.leaf.weight = 1", "old.made[1].second += 1", "old.name = 'x'"))
    return _handler(f"if old.key % 97 == {rng.randrange(97)}: {what}")


def _wrong(rng: random.Random) -> str:
    return _handler(after=f"result += 1.5 if old.key % 97 == {rng.randrange(97)} else 0")


def _partial(rng: random.Random) -> str:
    """A batch of which some rows are left out."""
    return _BATCH.format(place=rng.choice(("[:1]", "[1:]", "[:-1]", "[::2]")))


def _right(rng: random.Random) -> str:
    """Nothing is wrong: else every one of the others would be found."""
    return _handler() + _BACKWARD + _BATCH.format(place="").replace("from instar.ext import transform\n", "")


#: Kind -> (the handler, its backward half, whether there are invariants).
_HANDLERS: dict[str, tuple[Callable[[random.Random], str], str, bool]] = {
    "right": (_right, _BATCH_BACKWARD, True),
    "exception": (_raising, _CHECK, False),
    "hang": (_hanging, _CHECK, False),
    "memory hog": (_hungry, _CHECK, False),
    "mutated past": (_mutating, _CHECK, False),
    "wrong value, check": (_wrong, _CHECK, False),
    "wrong value, backward half": (_wrong, _BACKWARD, False),
    "wrong value, invariant": (_wrong, "", True),
    "wrong value, unchecked": (_wrong, "", False),
    "wrong value, unchecked and allowed": (_wrong, "", False),
    "partial batch, check": (_partial, _BATCH_CHECK, False),
    "partial batch, backward half": (_partial, _BATCH_BACKWARD, False),
    "partial batch, invariant": (_partial, "", True),
    "partial batch, unchecked": (_partial, "", False),
    "partial batch, unchecked and allowed": (_partial, "", False),
}
KINDS = tuple(_HANDLERS)
#: Values that nothing can contradict, which the user has taken upon himself. The report has to say so.
UNVALIDATED = tuple(kind for kind in KINDS if kind.endswith("unchecked and allowed"))


def prepare(kind: str, rng: random.Random, home: Path) -> Prepared:
    """A file with one wrong handler, and what its author checks."""
    wrong, backward, checked = _HANDLERS[kind]
    path, config = home / "handlers.py", home / "instar.toml"
    text = wrong(rng) + backward
    path.write_text(text)
    config.write_text(_INVARIANTS if checked else "")
    allowed = ["--allow", "unchecked-handler"] if kind in UNVALIDATED else []
    return Prepared(["--handlers", str(path), "--config", str(config), *allowed], text=text)
