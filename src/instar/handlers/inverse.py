"""A handler module the other way round: for rollback, and for transfer back. Pure."""

from __future__ import annotations

from typing import Any

from instar.errors import RefusedError
from instar.ext.registry import Handler, Pair, Registry


def invert(registry: Registry) -> Registry:
    """The module that takes the new version's state to the old one.

    Pairs are turned round; a transform becomes its backward half, and the other way round. What a handler
    initialised is dropped on the way back. Events and invariants stay as they are.

    Raises:
        RefusedError: "handler-not-invertible": a handler has no backward half.
    """
    result = Registry(registry.path)
    result.pairs = [Pair(pair.new, pair.old, pair.line) for pair in registry.pairs]
    for handler in registry.handlers:
        if handler.kind in ("on", "invariant"):
            result.handlers.append(handler)
        elif handler.kind != "initialize":
            result.handlers.append(_inverted(handler))
    again = registry.again
    result.again = None if again is None else lambda: invert(again())
    return result


def _inverted(handler: Handler[..., Any]) -> Handler[..., Any]:
    if handler.inverse is None:
        raise RefusedError(
            "handler-not-invertible",
            f"{handler.kind} {handler.target} at {handler.line} has no backward half",
            f"add one, `@{handler.__name__}.backward`, or stay with this version",
        )
    target = handler.source or handler.target
    back: Handler[..., Any] = Handler(
        handler.kind, target, handler.target, handler.is_batch, handler.inverse, handler.line
    )
    back.inverse = handler.function
    return back
