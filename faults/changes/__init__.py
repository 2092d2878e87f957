"""What the faults in a transfer change, one module for each kind of data.

Each function changes one thing in place, chosen with ``rng``, and says what it did; None where there is
nothing to change. Lists of one element stand for values that cannot be changed in place.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Array = Any
Change = Callable[[random.Random, Any], str | None]
