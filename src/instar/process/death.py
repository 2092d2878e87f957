"""The error for a process that ended while it was being worked on."""

from __future__ import annotations

import signal

from instar.errors import InstarError


class ProcessDiedError(InstarError):
    """The process ended while it was being worked on.

    Attributes:
        pid: Which process.
        status: Its exit status, or minus the signal that killed it, or None where that is not known.
    """

    def __init__(self, pid: int, status: int | None) -> None:
        if status is None:
            how = "is gone"
        else:
            how = f"was killed by {signal_name(-status)}" if status < 0 else f"exited with status {status}"
        super().__init__(
            "process-died", f"process {pid} {how}", "see why it ended; nothing of it is left to update"
        )
        self.pid = pid
        self.status = status


def signal_name(number: int) -> str:
    """ "SIGTERM" for 15; "signal 40" where there is no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
