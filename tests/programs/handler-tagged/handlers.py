from typing import Any

from instar.ext import Struct, cast, resolve_pointer, tagged


@resolve_pointer("struct entry.next")
def next_entry(old: Struct) -> Any:
    word = int(old.next)
    return tagged(cast(word & ~1, "struct entry *"), word & 1) if word > 1 else None


@resolve_pointer("struct box.number")
def as_number(old: Struct) -> Any:
    return cast(old.number, "struct entry *")
