"""What is said about rights, from what /proc says."""

from pathlib import Path

import pytest

from instar.process.status import parse_status
from instar.update import access

STATUS = """\
Name:\tserver
State:\tS (sleeping)
Pid:\t4711
PPid:\t1
TracerPid:\t0
Uid:\t1000\t1000\t1000\t1000
Gid:\t1000\t1000\t1000\t1000
VmSize:\t2000 kB
Threads:\t1
CapEff:\t{capabilities:016x}
Seccomp:\t{seccomp}
"""


@pytest.mark.parametrize(("text", "scope"), [("1\n", 1), ("0\n", 0), ("", 0), (None, 0)])
def test_yama_setting(text: str | None, scope: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "ptrace_scope"
    if text is not None:
        place.write_text(text)
    monkeypatch.setattr(access, "_YAMA", place)
    assert access.yama_scope() == scope


@pytest.mark.parametrize(
    ("scope", "words"), [(1, "sysctl kernel.yama.ptrace_scope=0"), (2, "sudo instar"), (3, "reboot")]
)
def test_yama_remedies(scope: int, words: str) -> None:
    assert words in access.yama_remedy(scope)
    assert f"ptrace_scope is {scope}" in access.yama_text(scope)


@pytest.mark.parametrize(
    ("seccomp", "capabilities", "refused"),
    [(0, 0, False), (2, 0, True), (2, 1 << access.CAP_SYS_ADMIN, False)],
)
def test_seccomp_filter_needs_a_right(
    seccomp: int, capabilities: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = parse_status(STATUS.format(seccomp=0, capabilities=capabilities))
    monkeypatch.setattr(access, "read_status", lambda pid: ours)
    error = access.explain_filter(parse_status(STATUS.format(seccomp=seccomp, capabilities=0)))
    assert (error is not None and error.code == "seccomp-filter") is refused


def test_the_calls_instar_needs_are_not_forbidden_here() -> None:
    assert access.explain_sandbox() is None


def test_a_user_without_a_name() -> None:
    assert access.user_name(0) == "root"
    assert access.user_name(123456789) == "123456789"
