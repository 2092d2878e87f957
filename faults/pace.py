"""How long things may take: from what an update without a fault takes on this machine, now.

A campaign runs for hours beside other work. Deadlines that fit an idle machine would count a slow minute as a
finding, or as a fault that was detected.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

_LEAST_UPDATE_S = 0.6


@dataclass(frozen=True)
class Pace:
    """Deadlines of every injection.

    Attributes:
        timeout_s, start_s, pause_ms: Those that ``instar update`` is given.
        tool_s: After this the tool is ended by force.
    """

    timeout_s: float
    start_s: float
    pause_ms: int
    tool_s: float

    @classmethod
    def of(cls, update_s: float) -> Pace:
        """That suits a machine on which a whole update takes this long."""
        unit = max(update_s, _LEAST_UPDATE_S)
        timeout = round(8 * unit, 1)
        return cls(
            timeout, round(4 * unit, 1), round(2000 * unit), round(timeout + 2000 * unit / 1000 + 8, 1)
        )

    @property
    def options(self) -> list[str]:
        """Arguments of ``instar update``."""
        return [
            "--timeout", str(self.timeout_s), "--start-timeout", str(self.start_s),
            "--max-pause", str(self.pause_ms),
        ]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)
