from instar.ext import transform


@transform("struct conn.timeout")
def to_milliseconds(seconds: int) -> int:
    return seconds * 1000
