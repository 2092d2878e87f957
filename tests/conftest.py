"""What holds for every test."""

import os
import signal
import stat
from collections.abc import Generator

import pytest

from instar.testing.programs import Builder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In continuous integration a skipped test is a failure: what is missing there must be seen."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("INSTAR_CI"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        if item.get_closest_marker("real") and "NOT TESTED, no source" in str(reason):
            return report  # an unreachable archive is the one thing that may skip, loudly
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in continuous integration: {reason}"
    return report


@pytest.fixture(scope="session")
def builder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Compiles test programs; they are kept in pytest's cache, if it has one."""
    cache = getattr(pytestconfig, "cache", None)
    return Builder(cache.mkdir("programs") if cache else tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="session", autouse=True)
def reachable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Other users may start what the tests build (a worker's directory lies one deeper than pytest's own)."""
    base = tmp_path_factory.getbasetemp()
    for directory in (base, *base.parents):
        if directory.stat().st_uid != os.getuid() or directory.stat().st_mode & stat.S_IXOTH:
            break
        directory.chmod(directory.stat().st_mode | stat.S_IXOTH)


@pytest.fixture(autouse=True)
def default_signals() -> None:
    """Tests send signals to what they start, which inherits what nohup, a shell's `&` or a test left ignored.

    An update that has committed ignores them for the rest of its process, which here is the tests' own.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
