"""Starts a new version beside a running one, says so, and waits to be killed. Arguments: PID OLD NEW."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.live.startup_support import start

future = start(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
print(future.pid, flush=True)
signal.pause()
