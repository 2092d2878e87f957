"""Reports of all outcomes, of hostile programs and of huge ones."""

from __future__ import annotations

from dataclasses import replace

from instar.pairing.alignment import AlignedType, Place, Row
from instar.transfer.census import TEXT, UNTYPED, TypeFigures
from instar.update.changes import ByStatus, Names, VersionChanges
from instar.update.outcome import (
    Failure,
    Leaked,
    NamedDescriptor,
    Outcome,
    PhaseTime,
    UpdateReport,
    VersionId,
)
from instar.validation.outcome import Validation

_TIMES = (
    ("plan", 61.2), ("start", 183.0), ("pre-copy", 95.5), ("quiesce", 1.1), ("pre-check", 4.2),
    ("transfer", 2.4), ("validate", 3.3), ("commit", 1.9),
)  # fmt: skip


def _phases(count: int) -> tuple[PhaseTime, ...]:
    at, found = 0.0, []
    for name, ms in _TIMES[:count]:
        found.append(PhaseTime(name, ms, at))
        at += ms
    return tuple(found)


def _row(change: str, old: tuple[str, str, int] | None, new: tuple[str, str, int] | None) -> Row:
    places = [Place(*side, "", 8) if side is not None else None for side in (old, new)]
    return Row(change, *places)  # type: ignore[arg-type]


CLIENT = AlignedType(
    "struct client", "struct client", "struct", 40, 56,
    (
        _row("same", ("fd", "int", 0), ("fd", "int", 0)),
        _row("added", None, ("quota", "long int", 8)),
        _row("moved", ("next", "struct client *", 8), ("next", "struct client *", 16)),
        _row("retyped", ("bytes", "int", 16), ("bytes", "long int", 24)),
        _row("removed", ("spare", "long int", 24), None),
        _row("renamed", ("rate", "double", 32), ("speed", "double", 32)),
        Row("moved", Place("busy", "unsigned int", 0, "0:1", 4), Place("busy", "unsigned int", 1, "3:1", 4)),
    ),
)  # fmt: skip
MODE = AlignedType(
    "enum mode", "enum mode", "enum", 4, 4,
    (Row("moved", Place("IDLE", "", 0), Place("IDLE", "", 1)), Row("added", None, Place("BUSY", "", 0))),
)  # fmt: skip
CHANGES = VersionChanges(
    (CLIENT, MODE),
    ByStatus(Names(("struct limits",)), Names(), Names(("enum mode", "struct client"))),
    ByStatus(Names(("limits",)), Names(("old_counter",)), Names(("table",))),
    ByStatus(Names(("apply_limits",)), Names(), None),
    (("table", ("resized: struct client [8] -> struct client [16]",)),),
)
UPDATED = UpdateReport(
    "updated",
    old_pid=4711,
    new_pid=4790,
    old=VersionId("/srv/server-v1", "0a" * 20),
    new=VersionId("/srv/server-v2", "0b" * 20),
    pause_ms=13.2,
    total_ms=361.0,
    pause_at_ms=340.0,
    phases=_phases(8),
    objects={"heap": 5000, "static": 30, "local": 2},
    retyped=4000,
    pointers=9000,
    bytes=1 << 20,
    leaked=Leaked(3, 96),
    descriptors=1004,
    connections=1000,
    warnings=("frame-word: 2 not carried: main+8", "parent: 12 (sh) sees 4711 exit with status 0"),
    validation=Validation(5000, 4000, 9000, 1 << 20, 40, 90, 7, {"text": 12}, ms=3.1),
    types=(
        TypeFigures("struct client", "struct client", "heap", 4000, 800_000, 4000, 900_000, 4000),
        TypeFigures(TEXT, TEXT, "heap", 500, 150_000, 500, 150_000, 0),
        TypeFigures("struct room", "struct room", "heap", 400, 60_000, 400, 60_000, 0),
        TypeFigures(UNTYPED, UNTYPED, "heap", 100, 9_000, 100, 9_000, 0),
        TypeFigures("struct gone", None, "static", 32, 512, 0, 0, 0),
    ),
    pointer_classes={"null": 900, "unmoved": 3000, "moved": 5000, "library": 98, "dangling": 2},
    descriptor_kinds={"connection": 1000, "listener": 1, "terminal": 3},
    named_descriptors=(
        NamedDescriptor(3, "listener", "127.0.0.1:4000"),
        NamedDescriptor(0, "file", "/dev/null"),
    ),
    changes=CHANGES,
)
REHEARSED = replace(UPDATED, outcome="rehearsed", new_pid=None, kind="rehearsal")
REFUSED = replace(
    UPDATED, outcome="refused", new_pid=None, pause_at_ms=None, pause_ms=0.0, phases=_phases(3), objects={},
    validation=None,
    error=Failure("likely-rename", "`rate` is gone and `speed` is new", "keep `rate`", ("more",)),
)  # fmt: skip
ROLLED_BACK = replace(
    UPDATED, outcome="rolled-back", new_pid=None, phases=_phases(7), kind="rollback",
    error=Failure("state-differs", "head.next->id is 7, and was 8", "report it"),
)  # fmt: skip
DAMAGED = replace(
    UPDATED, outcome="damaged", new_pid=None, error=Failure("commit-interrupted", "x", "restart it")
)
EARLY = UpdateReport("refused", 4711, error=Failure("no-such-process", "there is no process 4711", "look"))

TRICKS = (
    "<script>window.hacked = 1</script>",
    "\"><img src=x onerror='window.hacked=1'>",
    "'; alert(1) //",
    "</style><script>hacked=1</script>",
    "&lt;b&gt; &amp;",
    "\x1b[31mred\x07\x00\x9b\r\n",
    "\u202egnp.exe\u2066",
    "\u05d0\u05d1\u05d2 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\ud800\udcff\ufeff",
    "W" * 5000,
    "x y" * 3000,
    "{" + "|".join(f"alternative_{n}" for n in range(300)) + "}",
    "javascript:hacked=1",
    "]]>--><!--",
    "\U0001f980" * 600,
)


def hostile(outcome: Outcome) -> UpdateReport:
    """Every text is a trick."""
    names = Names(TRICKS, 3)
    both = ByStatus(names, names, names)
    rows = tuple(
        Row(change, Place(one, other, 0, one[:9], 8), Place(other, one, 8, "", 8))
        for change in ("moved", "retyped", "renamed")
        for one, other in zip(TRICKS, reversed(TRICKS), strict=True)
    )
    aligned = tuple(
        AlignedType(one, one[::-1], kind, 8, 16, rows if index < 2 else rows[:1], 5)
        for index, one in enumerate(TRICKS)
        for kind in ("struct", "enum")[: 2 - index]
    )
    failure = Failure(TRICKS[0], " ".join(TRICKS[:9]), TRICKS[1], TRICKS)
    return replace(
        UPDATED,
        outcome=outcome,
        new_pid=4790 if outcome == "updated" else None,
        old=VersionId(f"/srv/{TRICKS[0]}", TRICKS[3]),
        new=VersionId("/srv/" + "".join(TRICKS), TRICKS[6]),
        phases=tuple(PhaseTime(one, 1.0, 9.0) for one in TRICKS),
        warnings=(*TRICKS, *(f"{one}: {TRICKS[0]}" for one in TRICKS)),
        error=None if outcome == "updated" else failure,
        validation=replace(UPDATED.validation or Validation(), exempt=dict.fromkeys(TRICKS, 4)),
        types=tuple(TypeFigures(one, one[::-1], one[:5], 9, 900, 9, 950, 9) for one in TRICKS),
        pointer_classes=dict.fromkeys(TRICKS, 7),
        descriptor_kinds=dict.fromkeys(TRICKS, 2),
        named_descriptors=tuple(NamedDescriptor(n, one, one) for n, one in enumerate(TRICKS)),
        changes=VersionChanges(aligned, both, both, both, tuple((one, TRICKS) for one in TRICKS)),
    )


def huge() -> UpdateReport:
    """Thousands of types, all changed, in as many lines as a report can have of anything."""
    rows = tuple(_row("moved", (f"member_{n}", "int", n), (f"member_{n}", "int", n + 8)) for n in range(400))
    aligned = tuple(replace(CLIENT, name=f"struct s{n}", rows=rows, left_out=9) for n in range(100))
    names = Names(tuple(f"name_of_something_{n}" for n in range(500)), 100_000)
    both = ByStatus(names, names, names)
    types = tuple(
        TypeFigures(f"struct s{n}", f"struct s{n}", "heap", n + 1, 5_000_000 // (n + 1), n + 1, 90 * n, n)
        for n in range(1000)
    )
    many = tuple(f"untyped-block: place[{n}].next->next: it may be anything" for n in range(5000))
    return replace(
        UPDATED, types=types, warnings=many,
        changes=VersionChanges(aligned, both, both, both, CHANGES.details),
        named_descriptors=tuple(NamedDescriptor(n, "file", f"/srv/data/{n}") for n in range(200)),
    )  # fmt: skip


ALL = {
    "updated": UPDATED,
    "rehearsed": REHEARSED,
    "refused": REFUSED,
    "rolled-back": ROLLED_BACK,
    "damaged": DAMAGED,
    "early": EARLY,
    "hostile": hostile("updated"),
    "hostile-failure": hostile("rolled-back"),
    "huge": huge(),
}
