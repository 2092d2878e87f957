"""Forks this process so that no signal handler runs in the child before it is what it should be."""

from __future__ import annotations

import ctypes
import os
import signal
import warnings


def fork() -> int:
    """Like ``os.fork``; in the child all signals are blocked until ``open_signals``.

    A handler that raises between the two returns of a fork would unwind the parent's work in the child, or be
    lost in one of the interpreter's own hooks.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = -1
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns when there are other threads; the children here only make system calls.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that their end can be waited for."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def open_signals() -> None:
    """For the child, when its handlers are set."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
