from typing import Any

from instar.ext import transform


@transform("struct node.milliseconds", from_="struct node.seconds", batch=True)
def to_milliseconds(seconds: Any) -> Any:
    return seconds.astype("i8") * 1000


@transform("struct leaf", batch=True)
def to_fahrenheit(old: Any, new: Any) -> None:
    new["degrees"] = old["degrees"] * 9 // 5 + 32


@to_milliseconds.check
def is_thousandfold(seconds: Any, milliseconds: Any) -> Any:
    return milliseconds == seconds.astype("i8") * 1000


@to_fahrenheit.check
def is_warmer(old: Any, new: Any) -> Any:
    return new["degrees"] == old["degrees"] * 9 // 5 + 32
