"""What `instar doctor` finds: one line a question, with the remedy where something stands in the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from instar.errors import HostError, InstarError

Verdict = Literal["ok", "note", "refused", "host"]


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Attributes:
        subject: What was looked at.
        verdict: "note" is good to know, "refused" stands in the way of updating this process, "host" is
            about the machine or a permission.
        text: What was found, in one line.
        code: Of the error that an update would end with, "" otherwise.
        remedy: "" when there is nothing to do.
    """

    subject: str
    verdict: Verdict
    text: str
    code: str = ""
    remedy: str = ""

    @classmethod
    def from_error(cls, subject: str, error: InstarError) -> Finding:
        """What stands in the way, in the words of the error."""
        verdict: Verdict = "host" if isinstance(error, HostError) else "refused"
        return cls(subject, verdict, error.cause, error.code, error.remedy)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)
