from typing import Any

from instar.ext import Array, alloc, alloc_string, past, transform


@transform("items")
def to_list(items: Array) -> Any:
    head = None
    for index in reversed(range(past.used)):
        node = alloc("struct item")
        node.key = items[index].key
        node.name = alloc_string(f"item {items[index].key}")
        node.label = items[index].label
        node.next = head
        head = node
    return head
