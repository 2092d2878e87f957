"""What a plan tells the user: changes that are automatic and problems that are not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that no rule settles; the plan is refused unless the user settles it.

    Attributes:
        code: Stable kebab-case identifier, what ``--allow CODE`` names.
        path: Where: ``struct conn.peer.port``, ``variable config``, ``struct conn``.
        cause: One line, with both sides.
        remedy: One line.
    """

    code: str
    path: str
    cause: str
    remedy: str

    def under(self, prefix: str) -> Problem:
        """The same problem seen from an enclosing object (``prefix`` is put before the path)."""
        return Problem(self.code, prefix + self.path, self.cause, self.remedy)


@dataclass(frozen=True, slots=True)
class Change:
    """A difference that is carried over without help.

    Attributes:
        kind: ``added``, ``removed``, ``moved``, ``retyped``, ``resized``, ``renumbered`` or ``kept-new``.
        path: Member path relative to the type (``.peer.port``), or "" for the type itself.
        detail: One line: what it was and what it becomes.
    """

    kind: str
    path: str
    detail: str

    def under(self, prefix: str) -> Change:
        """The same change seen from an enclosing object."""
        return Change(self.kind, prefix + self.path, self.detail)
