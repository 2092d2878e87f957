"""Runs the measurements, prints the table of ratios, keeps the figures in bench/results."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measure import Row, UpdateError

MODULES = (
    "startup",
    "metadata",
    "typed",
    "blocks",
    "validation",
    "handlers",
    "connections",
    "pages",
    "alternatives",
)
RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; the exit status is 1 when a ratio is over its limit or a measurement failed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[*MODULES, []], help="measurements to run (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller states, for a first look")
    arguments = parser.parse_args(argv)
    console, rows, failures = Console(), [], []
    for name in arguments.only or MODULES:
        try:
            for row in _rows(name, quick=arguments.quick):
                rows.append(row)
                console.print(f"[dim]{row.name}: {row.value:.2f} {row.unit}[/dim]", highlight=False)
        except (UpdateError, AssertionError) as error:
            failures.append(f"{name}: {error}")
    console.print(_table(rows))
    for failure in failures:
        console.print(f"FAILED {failure}", style="red", highlight=False, markup=False)
    console.print(_summary(rows, failures), highlight=False, markup=False)
    _keep(rows, failures, quick=arguments.quick)
    return 1 if failures or any(row.good is False for row in rows) else 0


def _rows(name: str, *, quick: bool) -> Iterator[Row]:
    run = importlib.import_module(f"bench.{name}").run
    yield from run(quick=quick)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None)
    for heading, justify in (
        ("measurement", "left"), ("value", "right"), ("ratio", "right"), ("of", "left"), ("limit", "right"),
        ("", "left"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(
            row.name,
            f"{row.value:.2f} {row.unit}" if row.unit else "",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.base_name and f"{row.base_name} ({row.base:.2f})",
            "" if row.limit is None else f"{row.limit:g}",
            {None: "", True: "met", False: "[red]NOT MET[/red]"}[row.good],
        )
    for row in rows:
        if row.note:
            table.caption = f"{table.caption or ''}{row.name}: {row.note}\n"
    return table


def _summary(rows: Sequence[Row], failures: Sequence[str]) -> str:
    """The marks that are not met, by name, and how many are."""
    judged = [row for row in rows if row.good is not None]
    lines = [
        f"NOT MET: {row.name}: {row.ratio:.2f} x {row.base_name}, mark {row.limit:g}"
        for row in judged
        if not row.good
    ]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    lines.append(
        f"{len(judged) - len(lines)} of {len(judged)} marks met, {len(failures)} measurements failed"
    )
    lines.append(f"load of the machine: {load} on {os.cpu_count()} processors")
    return "\n".join(lines)


def _keep(rows: Sequence[Row], failures: Sequence[str], *, quick: bool) -> None:
    RESULTS.mkdir(exist_ok=True)
    document = {
        "schema": 1,
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {
            "kernel": platform.release(),
            "libc": platform.libc_ver(),
            "processor": platform.machine(),
        },
        "quick": quick,
        "load": os.getloadavg(),
        "met": sum(row.good is True for row in rows),
        "not_met": [row.name for row in rows if row.good is False],
        "rows": [{**asdict(row), "ratio": row.ratio, "good": row.good} for row in rows],
        "failures": list(failures),
    }
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
