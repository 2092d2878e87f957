"""What ends an update from outside: how it is told."""

from __future__ import annotations

import pytest

from instar.cli.failures import InterruptedBySignal, exit_status
from instar.errors import InstarError
from instar.update.unexpected import as_instar_error, as_rolled_back


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (InterruptedBySignal(15), 143)])
def test_interruptions(error: KeyboardInterrupt, status: int) -> None:
    """The status is the signal's; the target says whether the old version had been paused."""
    known = as_instar_error(error)
    assert (known.code, known.target, exit_status(error)) == ("interrupted", "untouched", status)
    paused = as_rolled_back(error)
    known = as_instar_error(paused)
    assert isinstance(known, InstarError)
    assert (known.code, known.target, exit_status(paused)) == ("interrupted", "rolled-back", status)
