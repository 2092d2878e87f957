"""Every node: a count within its array, no pointer to nowhere."""

from instar.ext import Struct, repair

NOWHERE = 0x123456789000


@repair("struct node")
def make_whole(node: Struct) -> None:
    node.count = min(node.count, len(node.values))
    if int(node.other) == NOWHERE:
        node.other = None
