from instar.ext import Enumerator, transform

NAMES = {"IDLE": "SLEEPING", "BUSY": "WORKING", "DEAD": "GONE"}


@transform("enum mode")
def renamed(value: Enumerator) -> str:
    assert value.name is not None
    return NAMES[value.name]


@renamed.backward
def named_before(value: Enumerator) -> str:
    return {new: old for old, new in NAMES.items()}[value.name or ""]
