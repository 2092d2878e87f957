"""Functions that the new version calls and nobody has: its loader would find out at the first call."""

from __future__ import annotations

from collections.abc import Collection

from instar.errors import RefusedError
from instar.heap.bindings import Unbound, find_undefined
from instar.process.maps import read_maps
from instar.process.memory import Memory

_CODE = "undefined-symbol"
_SHOWN = 8


def require_defined(past: int, future: int, allow: Collection[str]) -> list[str]:
    """Look up what the parked future calls and its loader has not looked up yet.

    A call of the same name and version that the past could not make either is only warned of.

    Args:
        past: PID of the old version.
        future: PID of the new one, which stands still.
        allow: Codes of refusals that are waived.

    Returns:
        Warnings about what is not found all the same.

    Raises:
        RefusedError: "undefined-symbol", with the loader's words.
    """
    found = _find(future)
    if not found:
        return []
    before = {(call.name, call.version) for call in _find(past)}
    fresh = [call for call in found if (call.name, call.version) not in before]
    if fresh and _CODE not in allow:
        raise RefusedError(
            _CODE,
            f"the new version calls a function that is nowhere, and would end when it does: {fresh[0]}",
            f"mend the new program or its libraries; --allow {_CODE} if it never makes that call",
            details=tuple(str(call) for call in fresh[1:_SHOWN]),
        )
    return [_warning(call, "allowed" if call in fresh else "so has the old version") for call in found]


def _find(pid: int) -> list[Unbound]:
    return find_undefined(Memory(pid), read_maps(pid))


def _warning(call: Unbound, why: str) -> str:
    return f"{_CODE}: {call} ({why})"
