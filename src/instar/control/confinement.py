"""What the past may not do, the new version shall not do either: seccomp filters and security labels.

A filter or a label that a service manager or a container gave the past is not given to a process that instar
starts.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from instar.control.gate import require_no_filter
from instar.errors import RefusedError
from instar.process.status import read_status

_CODE = "less-confined"


def require_confined(past: int, future: int, allow: Collection[str]) -> list[str]:
    """Compare the past with the parked future.

    Args:
        past: PID of the old version.
        future: PID of the new one, at its quiescent point.
        allow: Codes of refusals that are waived.

    Returns:
        Warnings about what was allowed.

    Raises:
        RefusedError: "less-confined"; "seccomp-filter": the future has a filter, which may not let it pass
            the gate.
    """
    require_no_filter(future)
    lines = [line for line in (_filter(past), _label(past, future)) if line]
    if lines and _CODE not in allow:
        raise RefusedError(
            _CODE,
            f"process {past} {lines[0]}, which the new version would be without",
            f"start it anew where it gets that from; --allow {_CODE} if it can do without",
            details=tuple(lines[1:]),
        )
    return [f"{_CODE}: process {past} {line}; the new version has none of that" for line in lines]


def _filter(past: int) -> str:
    return "is under a seccomp filter" if read_status(past).seccomp else ""


def _label(past: int, future: int) -> str:
    old, new = read_label(past), read_label(future)
    return f"is confined as {old} (security label)" if old and old != new else ""


def read_label(pid: int) -> str:
    """What a security module (AppArmor, SELinux) has labelled a process with; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/attr/current").read_bytes().rstrip(b"\0\n").decode(errors="replace")
    except OSError:
        return ""
