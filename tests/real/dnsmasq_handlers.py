"""The one thing of dnsmasq 2.90 that no rule knows: whether a long name is in use, or links free ones.

There the rules can go (the union grows), but not back.
"""

from instar.ext import Struct, address_of, past, transform


def _free_names() -> set[int]:
    found: set[int] = set()
    name = past["cache.c:big_free"]
    while name:
        found.add(int(name))
        name = name.next
    return found


@transform("union bigname")
def carry(old: Struct, new: Struct) -> None:
    if address_of(old) in _free_names():
        new.next = old.next
    else:
        new.name = old.name.bytes().partition(b"\0")[0] + b"\0"


@carry.backward
def carry_back(old: Struct, new: Struct) -> None:
    carry.function(old, new)
