from typing import Any

from instar.ext import Struct, cast, resolve_pointer, same, tagged


@resolve_pointer("struct entry.next")
def next_entry(old: Struct) -> Any:
    word = int(old.next)
    return tagged(cast(word & ~1, "struct entry *"), word & 1) if word > 1 else None


@resolve_pointer("struct box.number")
def as_number(old: Struct) -> Any:
    return cast(old.number, "struct entry *")


@next_entry.check
def is_next(old: Struct, new: Struct) -> bool:
    return same(next_entry(old), new.next)


@as_number.check
def is_number(old: Struct, new: Struct) -> bool:
    return same(as_number(old), new.number)
