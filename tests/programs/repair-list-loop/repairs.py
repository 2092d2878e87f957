"""Ends a list where it comes back to one of its own items."""

from instar.ext import Pointer, repair


@repair("first")
def end(item: Pointer) -> None:
    seen = set()
    while item:
        seen.add(item)
        if item.next in seen:
            item.next = None
        item = item.next
