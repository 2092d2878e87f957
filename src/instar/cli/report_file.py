"""`--report FILE`: where the page goes. Tried before anything is done, never in its way afterwards."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import stat
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from instar.errors import HostError, InstarError, UsageError
from instar.update.outcome import UpdateReport

STDOUT = "-"
_START = b"<!doctype html"
_PROBE = bytes(64 << 10)  # about what a report takes
_MODE = 0o666
_REMEDY = "give a file in a directory that may be written"


class ReportFile:
    """The file that a report will be written to; an old report of that name stays until then.

    Args:
        place: As the user gave it; ``-`` is standard output.

    Raises:
        UsageError: There is a file of that name which is not a report.
        HostError: "report-unwritable".
    """

    def __init__(self, place: str) -> None:
        self.is_stdout = place == STDOUT
        # Absolute at once; a link is not followed: nobody else may send a report of root elsewhere.
        self.path = Path(os.path.abspath(place))  # noqa: PTH100 (resolve() follows links)
        if not self.is_stdout:
            self._require_report(place)
            self._probe()

    def _require_report(self, place: str) -> None:
        """What is there may be replaced only if it is a report, or empty: arguments get mixed up."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from error
        if not place or place.endswith("/") or stat.S_ISDIR(status.st_mode):
            raise UsageError("usage", f"--report {place!r} is a directory", "give the name of a file in it")
        if not stat.S_ISREG(status.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a regular file"
            remedy = f"name the file itself, or {STDOUT} for standard output"
            raise UsageError("usage", f"--report {place!r} is {kind}", remedy)
        try:
            with self.path.open("rb") as file:
                start = file.read(len(_START))
        except OSError as error:
            raise self._unwritable(error) from error
        if start and start.lower() != _START:
            raise UsageError(
                "usage", f"--report {place!r} is there and is not a report", "give another name, or remove it"
            )

    def _probe(self) -> None:
        """Write as much as a report beside its place, and remove it again."""
        try:
            descriptor, name = self._open()
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_PROBE)
            finally:
                os.unlink(name)  # noqa: PTH108
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> InstarError:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else str(error)
        return HostError("report-unwritable", f"{self.path}: {reason}", _REMEDY)

    def _open(self) -> tuple[int, str]:
        return tempfile.mkstemp(prefix=".instar-report-", suffix=".tmp", dir=self.path.parent)

    def write(self, report: UpdateReport) -> UpdateReport:
        """Put the page in its place, whole or not at all; what fails becomes a warning of the report.

        Raises:
            BrokenPipeError: Nobody reads standard output any more.
        """
        try:
            from instar.cli.page.document import render_page

            page = render_page(report, datetime.now(UTC)).encode(errors="backslashreplace")
            if self.is_stdout:
                sys.stdout.flush()
                sys.stdout.buffer.write(page)
                sys.stdout.buffer.flush()
            else:
                self._replace(page)
        except BrokenPipeError:
            raise
        except Exception as error:  # the update is over: nothing here may make it look otherwise
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            return report.with_warning(f"report-not-written: {self.path}: {reason or type(error).__name__}")
        return report

    def _replace(self, page: bytes) -> None:
        descriptor, name = self._open()
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(page)
                file.flush()
                os.fchmod(file.fileno(), self._mode())
            if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.replace(name, self.path)  # noqa: PTH105
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)  # noqa: PTH108
            raise

    def _mode(self) -> int:
        """That of the report before, else what a new file gets."""
        with contextlib.suppress(OSError):
            return stat.S_IMODE(self.path.lstat().st_mode)
        mask = os.umask(0)
        os.umask(mask)
        return _MODE & ~mask


def find_report(arguments: argparse.Namespace) -> ReportFile | None:
    """The file that ``--report`` names, asked for whether it can be written; None without the option.

    Raises:
        InstarError: See ``ReportFile``; or two documents would go to standard output.
    """
    place: str | None = arguments.report
    if place is None:
        return None
    if place == STDOUT and arguments.json:
        raise UsageError("usage", "--report - and --json both write to standard output", "name a file")
    return ReportFile(place)
