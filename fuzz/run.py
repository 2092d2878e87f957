"""Runs the fuzzers one after the other, for a time; prints what they executed and found."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fuzz.guided import HARNESSES
from fuzz.peers import PEERS
from fuzz.targets import TARGETS, Fuzzed


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz; the exit status is 1 when anything was found."""
    names = [*HARNESSES, *(target.name for target in (*TARGETS, *PEERS))]
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[*names, []], help="targets (default: all)")
    parser.add_argument("--seconds", type=int, default=30, help="for each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="everything but the timing follows from it")
    arguments = parser.parse_args(argv)
    results = []
    for name in arguments.only or names:
        with tempfile.TemporaryDirectory(prefix="instar-fuzz-") as home:
            found = run(name, Path(home), arguments.seconds, arguments.seed)
        results.append(found)
        covered = f", {found.covered} edges" if found.covered else ""
        print(
            f"{name:<10} {found.executed:>9} inputs, {found.refused} refused{covered}, "
            f"{len(found.findings)} findings",
            flush=True,
        )
        for text in found.findings:
            print(f"  {text}")
    return 1 if any(found.findings for found in results) else 0


def run(name: str, home: Path, seconds: int, seed: int) -> Fuzzed:
    """One target."""
    if name in HARNESSES:
        return HARNESSES[name].run(home, seconds, seed)
    target = next(target for target in (*TARGETS, *PEERS) if target.name == name)
    return target(home).fuzz(seconds, seed)
