from typing import Any

from instar.ext import Array, alloc, alloc_string, past, same, transform


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


@to_list.check
def has_all(items: Array, head: Any) -> bool:
    for index in range(past.used):
        if head.key != items[index].key or head.name.string() != f"item {items[index].key}":
            return False
        if not same(items[index].label, head.label):
            return False
        head = head.next
    return not head
