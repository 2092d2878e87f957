"""What the faults in a transfer change, one module for each kind of data.

Each function changes one thing in place, chosen with ``rng``, and says what it did; None where there is
nothing to change. Lists of one element stand for values that cannot be changed in place.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

Array = Any
Change = Callable[[random.Random, Any], str | None]


def of_one(
    find: Callable[[Any], Sequence[Any]],
) -> Callable[[Callable[[random.Random, Any, Any], str]], Change]:
    """Makes a change of one thing a change of whichever ``rng`` chooses among those that are found."""

    def decorate(change: Callable[[random.Random, Any, Any], str]) -> Change:
        @wraps(change)
        def changed(rng: random.Random, data: Any) -> str | None:
            found = find(data)
            return change(rng, data, rng.choice(found)) if found else None

        return changed

    return decorate
