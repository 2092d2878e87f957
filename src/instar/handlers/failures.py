"""What goes wrong in a handler, with a name: the object's path, both values, the handler's line."""

from __future__ import annotations

import traceback
from typing import Any

from instar.errors import InstarError, RefusedError
from instar.ext.registry import Handler
from instar.handlers.guarding import HandlerExitError, HandlerTimeoutError
from instar.pairing.problems import Problem

_SHOWN = 300


def refuse(code: str, cause: str, remedy: str) -> RefusedError:
    """An error of a handler file."""
    return RefusedError(code, cause, remedy)


class HandlerFailure(Exception):
    """A handler raised; made into a Problem by whoever knows where that belongs.

    Attributes:
        problem: With path, values and line.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.cause)
        self.problem = problem


def line_of(handler: Handler[..., Any], error: BaseException) -> str:
    """FILE:LINE of the innermost frame in the handler's own file."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == handler.line.file]
    return f"{handler.line.file}:{own[-1].lineno}" if own else str(handler.line)


def failure(
    handler: Handler[..., Any], error: BaseException, path: str, old: Any, new: Any
) -> HandlerFailure:
    """What a handler's exception says to the user.

    Args:
        handler: Which.
        error: What it raised.
        path: Of the object it worked on, "" for none.
        old, new: What it was given; shown.
    """
    if isinstance(error, InstarError):
        raise error  # not the handler's: the end of the pause
    code, text = _kind_of(error)
    where = f"{path}: " if path else ""
    values = [
        f"{name} = {shorten(value)}" for name, value in (("old", old), ("new", new)) if value is not None
    ]
    given = f" ({'; '.join(values)})" if values else ""
    cause = f"{where}{handler.kind} {handler.target} at {line_of(handler, error)}: {text}{given}"
    return HandlerFailure(
        Problem(code, path, cause, "correct the handler; `instar.testing.handlers` runs it alone")
    )


def _kind_of(error: BaseException) -> tuple[str, str]:
    if isinstance(error, HandlerTimeoutError):
        return "handler-timeout", str(error)
    if isinstance(error, HandlerExitError):
        return "handler-failed", str(error)
    if isinstance(error, SystemExit):
        return "handler-failed", "it tried to end the process"
    if isinstance(error, MemoryError):
        return "handler-failed", "it needs too much memory"
    return "handler-failed", f"{type(error).__name__}: {error}"


def shorten(value: Any) -> str:
    """A value for a message; never raises."""
    try:
        text = repr(value)
    except Exception as error:  # the program's author wrote __repr__
        text = f"<{type(value).__name__} that cannot be shown: {error}>"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
