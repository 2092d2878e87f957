"""A timer of the kernel's that kills this process, whatever it is doing then: looping in C, or stopped.

Python's own timers and threads need the interpreter, which a loop in C may never give back.
"""

from __future__ import annotations

import ctypes
import signal

_MONOTONIC, _TIMER_CREATE, _TIMER_SETTIME = 1, 222, 223  # not in every libc that Python finds
_libc = ctypes.CDLL(None, use_errno=True)


class LastResort:
    """SIGKILL to this process after a time, unless it was called off; see timer_create(2). Not inherited."""

    def __init__(self) -> None:
        self._timer = (ctypes.c_int * 1)()
        event = (ctypes.c_int * 16)(0, 0, signal.SIGKILL, 0)  # struct sigevent, SIGEV_SIGNAL
        if _libc.syscall(_TIMER_CREATE, _MONOTONIC, event, self._timer):
            raise OSError(ctypes.get_errno(), "timer_create")

    def set(self, seconds: float) -> None:
        """Kill after so many seconds from now; 0 calls it off."""
        when = (ctypes.c_long * 4)(0, 0, int(seconds), int(seconds % 1 * 1e9))  # struct itimerspec
        _libc.syscall(_TIMER_SETTIME, self._timer[0], 0, when, None)
