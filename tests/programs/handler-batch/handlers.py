from typing import Any

from instar.ext import transform


@transform("struct node.milliseconds", from_="struct node.seconds", batch=True)
def to_milliseconds(seconds: Any) -> Any:
    return seconds.astype("i8") * 1000


@transform("struct leaf", batch=True)
def to_fahrenheit(old: Any, new: Any) -> None:
    new["degrees"] = old["degrees"] * 9 // 5 + 32
