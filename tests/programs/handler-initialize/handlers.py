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
