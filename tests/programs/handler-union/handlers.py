from instar.ext import Struct, resolve_union, same


@resolve_union("struct value.u")
def in_use(value: Struct) -> str | None:
    return {1: "number", 2: "text", 3: "other"}.get(value.kind)


@resolve_union("struct cell.number")
def of_cell(cell: Struct) -> str:
    return "text" if cell.is_text else "number"


@in_use.backward
def in_use_again(value: Struct) -> str | None:
    return in_use(value)


@of_cell.check
def cell_arrived(old: Struct, new: Struct) -> bool:
    return same(old[of_cell(old)], new[of_cell(new)])
