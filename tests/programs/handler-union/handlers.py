from instar.ext import Struct, resolve_union


@resolve_union("struct value.u")
def in_use(value: Struct) -> str | None:
    return {1: "number", 2: "text", 3: "other"}.get(value.kind)


@resolve_union("struct cell.number")
def of_cell(cell: Struct) -> str:
    return "text" if cell.is_text else "number"
