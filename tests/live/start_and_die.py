"""Starts a new version beside a running one, says so, and waits to be killed.

usage: python -m tests.live.start_and_die PID OLD NEW
"""

import signal
import sys
from pathlib import Path

from tests.live.startup_support import start

future = start(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
print(future.pid, flush=True)
signal.pause()
