from instar.ext import Struct, initialize, past


@initialize("struct conn.deadline")
def deadline(old: Struct, new: Struct) -> int:
    assert new.started == old.started
    return old.started + old.timeout


@initialize("total")
def total() -> int:
    conn, sum_ = past.conns, 0
    while conn:
        sum_ += conn.timeout
        conn = conn.next
    return sum_


@deadline.check
def is_right(old: Struct, new: Struct) -> bool:
    return new.deadline - old.started == old.timeout


@total.check
def is_sum(made: int) -> bool:
    return made == total()
