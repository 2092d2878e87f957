"""An interval timer that expired while its process stands still goes on in the new version."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.live.holding import hold

from instar.control.timers import plan_timers, read_timers

SOURCE = """
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>
static void on_alarm(int number) { (void)number; }
int main(void) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval timer = {{0, 5000}, {0, 5000}};
    char byte;
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &timer, 0);
    if (write(1, "r", 1) != 1) return 1;
    return read(0, &byte, 1) > 0;
}
"""


def test_expired_timer_is_armed_again(tmp_path: Path) -> None:
    source, program = tmp_path / "alarms.c", tmp_path / "alarms"
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-o", str(program), str(source)], check=True)
    child = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.read(1) == b"r"
        past = hold(child.pid)
        pending = Path(f"/proc/{child.pid}/status")
        while "ShdPnd:\t0000000000002000" not in pending.read_text():
            pass
        (timer,) = read_timers(past, plan_timers(child.pid)).intervals
        assert (timer.which, timer.value_ns, timer.interval_ns) == (0, 5_000_000, 5_000_000)
        past.close()
    finally:
        child.kill()
        child.communicate()
