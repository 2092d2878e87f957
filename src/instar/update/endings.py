"""What else would end with the old version, and take the new one along; settled before anything is begun.

- A service manager's unit ends with its main process when no other is known: systemd then kills all that is
  left in the control group, the new version included.
- A terminal is hung up when the leader of its session ends (drivers/tty/tty_jobctrl.c, disassociate_ctty):
  who has it open reads its end from then on.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from instar.control.startup_past import notify_name
from instar.errors import InstarError, RefusedError
from instar.process.descriptors import Descriptor, list_descriptors
from instar.process.status import read_environment, read_status
from instar.process.surroundings import Surroundings
from instar.update.access import CAP_SYS_ADMIN, has_capability

_MANAGER, _SUFFIX = "systemd", ".service"
_ASK_S = 5.0
_DEV_TTY = os.makedev(5, 0)  # "my controlling terminal"


def explain_endings(surroundings: Surroundings) -> list[RefusedError]:
    """Everything of that kind which stands in the way of an update."""
    found = (explain_manager(surroundings), explain_terminal(surroundings))
    return [error for error in found if error is not None]


def explain_terminal(surroundings: Surroundings) -> RefusedError | None:
    """Why a terminal would end with the old version that has it open."""
    if not surroundings.session_leader or not surroundings.terminal:
        return None
    numbers = [
        d.number for d in list_descriptors(surroundings.pid, sockets=False) if _is_terminal(d, surroundings)
    ]
    if not numbers:
        return None
    return RefusedError(
        "session-terminal",
        f"process {surroundings.pid} leads the session of its terminal (descriptor {numbers[0]}), "
        "which is hung up when it ends",
        "start it from a shell, or with its input and output elsewhere; --allow session-terminal if the new "
        "version can do without the terminal",
    )


def _is_terminal(descriptor: Descriptor, surroundings: Surroundings) -> bool:
    return descriptor.kind == "terminal" and descriptor.device_number in (surroundings.terminal, _DEV_TTY)


def unit_of(surroundings: Surroundings) -> str:
    """The unit of which a process is the main one; empty when it is not a service's."""
    try:
        parent = read_status(surroundings.status.parent).name if surroundings.status.parent else ""
    except InstarError:
        return ""
    if parent != _MANAGER:
        return ""
    units = [
        part
        for line in surroundings.cgroups
        for part in line.split(":", 2)[2].split("/")
        if part.endswith(_SUFFIX) and not part.startswith("user@")
    ]
    return units[-1] if units else ""


def explain_manager(surroundings: Surroundings) -> RefusedError | None:
    """Why the unit would end with the old version; None when it will not, or there is none."""
    unit = unit_of(surroundings)
    if not unit or _will_be_told(surroundings.pid) or _pid_file(unit, surroundings.status.parent):
        return None
    return RefusedError(
        "service-manager",
        f"process {surroundings.pid} is the main process of {unit}: systemd would end the unit with it "
        "and kill the new version",
        "run instar as root and have the unit say NotifyAccess=main or PIDFile=; "
        "--allow service-manager if it has KillMode=none",
    )


def _will_be_told(pid: int) -> bool:
    """By a message in the old version's name, which only root may send (control/service_manager.py)."""
    try:
        return bool(notify_name(read_environment(pid))) and has_capability(CAP_SYS_ADMIN)
    except (InstarError, OSError):
        return False


def _pid_file(unit: str, manager: int) -> bool:
    """Whether the unit has a PID file, which systemd reads again when the main process ends."""
    tool = shutil.which("systemctl")
    if tool is None:
        return False
    words = [tool, *(() if manager == 1 else ("--user",)), "show", "--property=PIDFile", "--value", unit]
    try:
        answer = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_S,
            check=False,
            env=dict(os.environ),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and bool(answer.stdout.strip())
