"""What two processes' surroundings differ in, as a user is told."""

from __future__ import annotations

import os
import resource
from dataclasses import replace

from instar.process.surroundings import differences, read_surroundings


def test_differences() -> None:
    ours = read_surroundings(os.getpid())
    assert differences(ours, ours) == []
    limits = {**ours.limits, resource.RLIMIT_NOFILE: (7, 8)}
    other = replace(ours, nice=ours.nice + 1, limits=limits, namespaces={**ours.namespaces, "net": "net:[1]"})
    assert differences(ours, other) == ["niceness", "limit of open files", "net namespace"]


def test_users_count_only_when_they_are_kept() -> None:
    ours = read_surroundings(os.getpid())
    other = replace(ours, status=replace(ours.status, uids=(5, 5, 5, 5), no_new_privileges=True))
    assert differences(ours, other) == ["user", "no_new_privs"]
    assert differences(ours, other, credentials=False) == []
