"""The handlers of one update: found, loaded, bound; what the phases of the update ask of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from instar.errors import RefusedError
from instar.ext.context import within
from instar.ext.registry import BEFORE, Event, Handler, Registry
from instar.handlers.annotated import annotated_handlers
from instar.handlers.binding import Binding, bind
from instar.handlers.execution import Execution
from instar.handlers.failures import failure
from instar.handlers.guarding import bounded
from instar.handlers.inverse import invert
from instar.handlers.memory import Memory, PastMemory
from instar.handlers.module import find_handlers, forget, load_handlers, require_trusted
from instar.handlers.names import Names
from instar.handlers.running import CAUGHT, arguments_of
from instar.handlers.surroundings import Desk, Future, StateView
from instar.handlers.unchecked import never_checked, require_checked
from instar.handlers.views import Side
from instar.metadata.version import Version
from instar.pairing.problems import Problem
from instar.pairing.settled import Settled
from instar.state.image import Image
from instar.transfer.places import address_of
from instar.transfer.prepared import PlanHandlers


class LiveFuture(Future, Protocol):
    """The future after its state was written: what handlers of events may do to it."""

    @property
    def memory(self) -> Memory:
        """Its memory."""

    def translate(self, address: int, old_pointee: int, new_pointee: int, path: str) -> int:
        """Where an address of the past leads."""


class Handlers:
    """Handlers bound to two versions; does nothing when there are none.

    Args:
        binding: None: there are none.
    """

    def __init__(self, binding: Binding | None) -> None:
        self.binding = binding

    @classmethod
    def find(
        cls,
        given: Path | None,
        new_path: Path,
        old: Version,
        new: Version,
        *,
        backwards: bool = False,
    ) -> Handlers:
        """Load ``given``, else ``NEW.instar.py`` if there is one, add what the program annotates, and bind.

        With ``backwards`` the file is the one that made the old version, and is turned round.

        Raises:
            RefusedError: "handlers-not-loaded", "handler-unknown-name", ...
        """
        path = find_handlers(given, old.path if backwards else new_path)
        registry = Registry()
        if path is not None:
            if given is None:
                require_trusted(path)
            registry = load_handlers(path)
            registry = invert(registry) if backwards else registry
        registry.handlers += annotated_handlers(old, new, registry)
        if path is None and not registry.handlers:
            return cls(None)
        return cls(bind(registry, old, new))

    def require_checked(self, allow: frozenset[str], *, has_invariants: bool) -> None:
        """Refuse handlers that are known to make what nothing checks; see ``unchecked.require_checked``.

        Raises:
            RefusedError: "unchecked-handler".
        """
        if self.binding is not None:
            require_checked(self.binding.registry, allow, has_invariants=has_invariants)

    def never_checked(self, allow: frozenset[str], *, has_invariants: bool) -> list[Problem]:
        """What ``require_checked`` refuses."""
        if self.binding is None:
            return []
        return never_checked(self.binding.registry, allow, has_invariants=has_invariants)

    @property
    def settled(self) -> Settled | None:
        """For ``plan_pairing``."""
        return None if self.binding is None else self.binding.settled

    @property
    def for_plan(self) -> PlanHandlers | None:
        """For ``Prepared``."""
        return None if self.binding is None else Execution(self.binding)

    def has(self, *events: Event) -> bool:
        """Whether anything runs at any of some events; invariants do at "quiesced" and "after_transfer"."""
        if self.binding is None:
            return False
        registry = self.binding.registry
        checked = bool(registry.of("invariant")) and bool({"quiesced", "after_transfer"} & set(events))
        return checked or any(registry.events(event) for event in events)

    def quiesced(self, past: Image) -> None:
        """The past stands still: ``on("quiesced")``, invariants, ``on("before_transfer")``."""
        if not self.has("quiesced", "before_transfer"):
            return
        assert self.binding is not None
        if self.binding.registry.events(*BEFORE):
            forget(self.binding.registry)
        desk = self._past_desk(past)
        self._run("quiesced", desk)
        self._check(desk.past, "before the transfer", desk)
        self._run("before_transfer", desk)

    def transferred(self, past: Image, future: Image, process: LiveFuture) -> None:
        """The state is in the future: ``on("after_transfer")``, invariants."""
        if self.has("after_transfer"):
            desk = self._live_desk(past, future, process)
            self._run("after_transfer", desk)
            self._check(desk.future, "in the new version", desk)

    def committing(self, past: Image, future: Image, process: LiveFuture) -> None:
        """``on("before_commit")``."""
        if self.has("before_commit"):
            self._run("before_commit", self._live_desk(past, future, process))

    def rolled_back(self) -> str | None:
        """``on("rolled_back")``; returns what went wrong, for a warning."""
        if not self.has("rolled_back"):
            return None
        try:
            self._run("rolled_back", Desk(None, None, (None, None)))
        except RefusedError as error:
            return f"handler-failed: {error.cause}"
        return None

    # Surroundings -------------------------------------------------------------------------------------------

    def _past(self, past: Image) -> tuple[StateView, Side]:
        assert self.binding is not None
        side = Side(self.binding.old, PastMemory(lambda _a, _n: None, past.subject.memory.read))
        return StateView(Names(self.binding.old, "old"), side, lambda row: address_of(past, row)), side

    def _past_desk(self, past: Image) -> Desk:
        state, side = self._past(past)
        return Desk(state, None, (side, None))

    def _live_desk(self, past: Image, future: Image, process: LiveFuture) -> Desk:
        assert self.binding is not None
        state, past_side = self._past(past)
        side = Side(self.binding.new, process.memory, process.translate)
        new_state = StateView(Names(self.binding.new, "new"), side, lambda row: address_of(future, row))
        return Desk(state, new_state, (past_side, side), process=process)

    # Running ------------------------------------------------------------------------------------------------

    def _run(self, event: Event, desk: Desk) -> None:
        assert self.binding is not None
        for handler in self.binding.registry.events(event):
            self._guarded(handler, desk, partial(_call, handler))

    def _check(self, state: Any, when: str, desk: Desk) -> None:
        assert self.binding is not None
        for handler in self.binding.registry.of("invariant"):
            holds = self._guarded(handler, desk, partial(handler.function, state))
            if not holds:
                first = (handler.function.__doc__ or handler.target).strip().splitlines()[0]
                raise RefusedError(
                    "invariant-broken",
                    f"{handler.target} at {handler.line} does not hold {when}: {first}",
                    "update when it holds, or correct the handlers",
                )

    def _guarded(self, handler: Handler[..., Any], desk: Desk, function: Callable[[], Any]) -> Any:
        try:
            with bounded(), within(desk):
                return function()
        except CAUGHT as error:
            raise refused(failure(handler, error, "", None, None).problem) from error


def _call(handler: Handler[..., Any]) -> Any:
    return handler.function(*arguments_of(handler, ()))


def refused(problem: Problem) -> RefusedError:
    """A handler's problem as an error."""
    return RefusedError(problem.code, problem.cause, problem.remedy)
