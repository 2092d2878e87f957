"""`instar doctor`: the answer in the exit status, in lines and as JSON."""

import json

import pytest

from instar.cli import doctor
from instar.cli.main import main
from instar.errors import HostError, RefusedError
from instar.update import host, target
from instar.update.findings import Finding

OK = Finding("libc", "ok", "glibc 2.36")
NOTE = Finding("program file", "note", "it was deleted\x1b[2J")
REFUSED = Finding.from_error("threads", RefusedError("multi-threaded", "it has 5", "start it with one"))
HOST = Finding.from_error("access", HostError("ptrace-denied", "not allowed", "sudo instar"))


@pytest.mark.parametrize(
    ("machine", "process", "status"),
    [([OK], [NOTE], 0), ([OK], [REFUSED], 3), ([OK], [REFUSED, HOST], 6), ([HOST], [REFUSED], 6)],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_verdict(
    machine: list[Finding],
    process: list[Finding],
    status: int,
    as_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(host, "examine_host", lambda: machine)
    monkeypatch.setattr(target, "examine_target", lambda pid: process)
    assert main(["doctor", "4711", *(["--json"] if as_json else [])]) == status
    output = capsys.readouterr().out
    if as_json:
        document = json.loads(output)
        assert document["ready"] is (status == 0)
        assert document["machine"] == [finding.to_json() for finding in machine]
        assert document["process"] == [finding.to_json() for finding in process]
    else:
        assert all(finding.subject in output for finding in [*machine, *process])
        assert ("cannot be updated" in output) is (status != 0)


def test_without_a_process_the_machine_alone_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "examine_host", lambda: [OK])
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  ok   libc: glibc 2.36",
        "nothing stands in the way of updates",
    ]


def test_lines() -> None:
    assert doctor.finding_lines(REFUSED, False) == [
        "  NO   threads: it has 5 [multi-threaded]",
        "         start it with one",
    ]
    assert doctor.finding_lines(NOTE, False) == [" note  program file: it was deleted\\x1b[2J"]
    assert doctor.finding_lines(OK, True) == ["\x1b[32m  ok \x1b[0m  libc: glibc 2.36"]
