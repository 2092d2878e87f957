from instar.ext import transform


@transform("struct conn.timeout")
def to_milliseconds(seconds: int) -> int:
    return seconds * 1000


@to_milliseconds.backward
def to_seconds(milliseconds: int) -> int:
    return milliseconds // 1000
