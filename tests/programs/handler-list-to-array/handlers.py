from typing import Any

from instar.ext import alloc, future, past, transform


@transform("table", from_="items")
def to_array(head: Any) -> Any:
    values = []
    while head:
        values.append(head.key)
        head = head.next
    block = alloc("struct entry", len(values))
    for entry, value in zip(block, values, strict=True):
        entry.key = value
        entry.weight = value / 2
    future.count = len(values)
    assert past.items.key == values[0]
    return block


@to_array.check
def has_all(head: Any, block: Any) -> None:
    index = 0
    while head:
        assert (block[index].key, block[index].weight) == (head.key, head.key / 2)
        head, index = head.next, index + 1
    assert future.count == index
