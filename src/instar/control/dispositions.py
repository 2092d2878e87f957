"""What the past does at signals, where the future's start-up has not said anything.

A disposition that the future has set at its own start stays. What only the past has set is carried: ignored
signals are known from outside; for a handler the stopped past is asked, and only then.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instar.control.runtime import Runtime
from instar.errors import InternalError, RefusedError
from instar.process.exports import find_exports
from instar.process.failures import RemoteCallError, signal_name
from instar.process.maps import read_maps
from instar.process.signals import Asked, Disposition, parse_disposition
from instar.process.status import Status

#: Addresses of functions of the past (u8) -> of their counterparts, 0 where there is none.
TranslateFunctions = Callable[[npt.NDArray[np.uint64]], npt.NDArray[np.uint64]]

_LIBC_ACTION = struct.Struct("<QQ120xiiQ")  # handler, mask (1024 bits), flags, padding, restorer
_IGNORE = 1
_SA_RESTORER = 0x04000000
_LIBC = ("libc.so.6",)


@dataclass(frozen=True)
class DispositionPlan:
    """Signals whose disposition the future takes over.

    Attributes:
        ignored: To be ignored.
        caught: Handled by a function of the past.
    """

    ignored: tuple[int, ...]
    caught: tuple[int, ...]


def plan_dispositions(past: Status, future: Status) -> DispositionPlan:
    """What the past has set and the future has left at its default; the future stands parked."""
    untouched = ~(future.signals_caught | future.signals_ignored)
    return DispositionPlan(
        _numbers(past.signals_ignored & untouched), _numbers(past.signals_caught & untouched)
    )


def _numbers(mask: int) -> tuple[int, ...]:
    """Not glibc's own two (32, 33), which it sets where it needs them."""
    return tuple(n for n in range(1, 65) if mask >> (n - 1) & 1 and n not in (32, 33))


def read_handlers(past: Asked, numbers: tuple[int, ...]) -> dict[int, Disposition]:
    """Have the held past ask."""
    answers = past.ask([("action", number) for number in numbers]) if numbers else []
    return {number: parse_disposition(data) for number, data in zip(numbers, answers, strict=True)}


def apply_dispositions(
    runtime: Runtime, plan: DispositionPlan, handlers: dict[int, Disposition], translate: TranslateFunctions
) -> None:
    """Install them in the parked future, through its own libc.

    Raises:
        RefusedError: "handler-gone": the new version has no counterpart of a handler.
    """
    actions = {number: Disposition(_IGNORE, 0, 0, 0) for number in plan.ignored}
    numbers = [number for number in plan.caught if handlers[number].caught]
    addresses = translate(np.array([handlers[number].handler for number in numbers], np.uint64)).tolist()
    for number, address in zip(numbers, addresses, strict=True):
        if not address:
            raise RefusedError(
                "handler-gone",
                f"{signal_name(number)} is handled by a function at {handlers[number].handler:#x} "
                "that the new version does not have",
                "keep the function, or install another handler at start-up",
            )
        actions[number] = handlers[number]._replace(handler=address)
    if actions:
        _install(runtime, actions)


def _install(runtime: Runtime, actions: dict[int, Disposition]) -> None:
    future = runtime.tracee
    exports = find_exports(future.memory, read_maps(future.pid), *_LIBC)
    if exports is None:
        raise InternalError(f"process {future.pid} has no libc")
    function = exports.symbols["sigaction"]
    room = runtime.scratch(_LIBC_ACTION.size)
    with future.surgery() as surgery:
        for number, action in actions.items():
            flags = action.flags & ~_SA_RESTORER & 0xFFFFFFFF
            signed = flags - (1 << 32) if flags >> 31 else flags
            future.memory.write(room, _LIBC_ACTION.pack(action.handler, action.mask, signed, 0, 0))
            if surgery.call(function, number, room, 0) & 0xFFFFFFFF:
                raise RemoteCallError(
                    "remote-call-failed",
                    f"sigaction({signal_name(number)}) failed in the new version",
                    "try again",
                )
