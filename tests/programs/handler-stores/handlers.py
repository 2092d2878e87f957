from instar.ext import Struct, alloc, convert, future, initialize, past, transform


@transform("struct moved")
def mark(old: Struct, new: Struct) -> None:
    new.stay.value = old.stay.value + 100
    new.stay.owner = new
    new.copy = alloc("struct stays")
    convert(old.stay, new.copy)
    future.audit.lines += 1
    future.audit.last = new.stay
    new.words[1] = 7
    new.self_word = new


@initialize("total")
def total() -> int:
    count, one = 0, past.list
    while one:
        count, one = count + one.id, one.next
    return count


@mark.check
def is_marked(old: Struct, new: Struct) -> bool:
    return bool(
        new.stay.value == old.stay.value + 100
        and new.stay.owner == new.self_word
        and new.copy.value == old.stay.value
        and new.words[1] == 7
    )


@total.check
def is_count(made: int) -> bool:
    return made == total()
