from instar.ext import Struct, transform


@transform("struct user")
def split_name(old: Struct, new: Struct) -> None:
    first, _, last = old.name.string().partition(" ")
    new.first = first
    new.last = last


@split_name.backward
def join_name(old: Struct, new: Struct) -> None:
    new.name = f"{old.first.string()} {old.last.string()}".rstrip(" ")
