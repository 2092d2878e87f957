"""The table of the start-up rules: which call is judged by which rule; every other call runs as it is."""

from __future__ import annotations

from instar.control import (
    startup_descriptors,
    startup_files,
    startup_options,
    startup_processes,
    startup_sockets,
)
from instar.control.startup_answers import Answer, Call, Rule, Run, Situation
from instar.process.syscalls import NUMBERS

_BY_NAME: dict[str, Rule] = {
    **startup_sockets.RULES,
    **startup_options.RULES,
    **startup_files.RULES,
    **startup_descriptors.RULES,
    **startup_processes.RULES,
}
RULES: dict[int, Rule] = {NUMBERS[name]: rule for name, rule in _BY_NAME.items()}


def decide(call: Call, situation: Situation) -> Answer:
    """What a call of the new version is answered; pure but for what the situation looks up."""
    rule = RULES.get(call.number)
    return Run() if rule is None else rule(call, situation)
