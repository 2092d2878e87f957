"""Cuts the log to its bound, and makes the record of the block behind it whole again."""

from instar.ext import Struct, cast, repair

RECORD = 0x21
"""Of a block of 24 bytes, the one before it being in use."""


@repair("log_")
def cut(log: Struct) -> None:
    if log.used > log.size:
        cast(log.data, "size_t *")[log.size // 8] = RECORD
        log.used = log.size
