"""Results of a campaign as lines of JSON, written as they come, so that it can be taken up again."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faults.outcome import Result
from faults.subjects import ROOT

if TYPE_CHECKING:
    from faults.pace import Pace

RESULTS = Path(__file__).parent / "results"
_SCHEMA = 2


@dataclass(frozen=True)
class Terms:
    """What the injections of a campaign follow from; only the same terms can be taken up again."""

    seed: int
    count: int
    only: tuple[str, ...]
    programs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "seed": self.seed, "count": self.count, "only": list(self.only), "programs": list(self.programs),
        }  # fmt: skip


class Ledger:
    """One file: a line for each piece of the campaign that begins, one for each result.

    Args:
        path: Made if it is not there.
        terms: Of the campaign.

    Raises:
        ValueError: The file is another campaign's.
    """

    def __init__(self, path: Path, terms: Terms) -> None:
        self.path, self.terms = path, terms
        self.results: dict[int, Result] = {}
        if path.exists():
            self._read()

    @classmethod
    def new(cls, terms: Terms) -> Ledger:
        """In ``faults/results``, named after the time."""
        return cls(RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.jsonl", terms)

    def _read(self) -> None:
        """What is there; the last line may be cut where a piece was killed."""
        for line in self.path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if "terms" in entry:
                if entry["terms"] != self.terms.to_json():
                    raise ValueError(f"{self.path} holds another campaign: {entry['terms']}")
                continue
            result = Result(**entry)
            self.results[result.number] = result
        if not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("a") as file:
                file.write("\n")  # a line that was cut stays alone

    def begin(self, paces: dict[str, Pace]) -> None:
        """A piece of the campaign begins."""
        self._append(
            {
                "schema": _SCHEMA,
                "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "commit": _commit(),
                "kernel": platform.release(),
                "terms": self.terms.to_json(),
                "paces": {name: pace.to_json() for name, pace in sorted(paces.items())},
            }
        )

    def add(self, result: Result) -> None:
        """Keep one."""
        self.results[result.number] = result
        self._append(result.to_json())

    def _append(self, entry: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def in_order(self) -> Sequence[Result]:
        """All results by number."""
        return [self.results[number] for number in sorted(self.results)]

    def outcomes(self) -> Counter[str]:
        """How often each."""
        return Counter(result.outcome for result in self.results.values())


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
