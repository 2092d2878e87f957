"""Runs inside gdb (`gdb -batch -x gdb_oracle.py PROGRAM`): what gdb knows of a program, as JSON on stdout.

The program is never started. PCS in the environment names a JSON file with the code addresses at which
blocks and lines are looked up.
"""

import json
import os
import pathlib

import gdb

CODES = {
    gdb.TYPE_CODE_STRUCT: "struct", gdb.TYPE_CODE_UNION: "union", gdb.TYPE_CODE_ENUM: "enum",
    gdb.TYPE_CODE_PTR: "pointer", gdb.TYPE_CODE_ARRAY: "array", gdb.TYPE_CODE_INT: "integer",
    gdb.TYPE_CODE_FLT: "float", gdb.TYPE_CODE_FUNC: "function", gdb.TYPE_CODE_BOOL: "integer",
    gdb.TYPE_CODE_CHAR: "integer", gdb.TYPE_CODE_VOID: "void",
}  # fmt: skip


def kind_of(kind):
    return CODES.get(kind.strip_typedefs().code, "other")


def describe(kind):
    """Layout of a struct or union; enumerators of an enum."""
    kind = kind.strip_typedefs()
    if kind.code == gdb.TYPE_CODE_ENUM:
        return [[field.name, field.enumval] for field in kind.fields()]
    rows = []
    for field in kind.fields():
        size = 0 if field.type.sizeof is None else field.type.strip_typedefs().sizeof
        rows.append([field.name or "", field.bitpos, field.bitsize, size, kind_of(field.type)])
    return rows


def note_type(kind, types) -> None:
    """Every named compound that can be reached, by `struct name size`."""
    pending = [kind]
    while pending:
        kind = pending.pop().strip_typedefs().unqualified()
        if kind.code in (gdb.TYPE_CODE_PTR, gdb.TYPE_CODE_ARRAY, gdb.TYPE_CODE_FUNC):
            pending.append(kind.target())
            continue
        if kind.code not in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION, gdb.TYPE_CODE_ENUM):
            continue
        if not kind.tag or not kind.fields():
            continue
        key = f"{CODES[kind.code]} {kind.tag} {kind.sizeof}"
        layout = describe(kind)
        if layout not in types.setdefault(key, []):
            types[key].append(layout)
            if kind.code != gdb.TYPE_CODE_ENUM:
                pending += [field.type for field in kind.fields()]


def place_of(symbol):
    """Link-time address of a static variable, None of what is not one."""
    if not symbol.is_variable or symbol.addr_class != gdb.SYMBOL_LOC_STATIC:
        return None
    return int(symbol.value().address)


def main() -> None:
    pcs = json.loads(pathlib.Path(os.environ["PCS"]).read_text())
    variables, functions, types, seen = set(), set(), {}, set()
    for pc in pcs:
        block = gdb.block_for_pc(pc)
        while block is not None:
            key = (block.start, block.end, str(block.function), block.is_static, block.is_global)
            if key in seen:
                break
            seen.add(key)
            if block.function is not None:
                functions.add((block.function.name, block.start, block.end))
            for symbol in block:
                if symbol.type is not None:
                    note_type(symbol.type, types)
                address = place_of(symbol)
                if address is not None:
                    size = symbol.type.strip_typedefs().sizeof
                    variables.add((symbol.name, address, size, kind_of(symbol.type), symbol.symtab.filename))
            block = block.superblock
    lines = {}
    for pc in pcs:
        found = gdb.find_pc_line(pc)
        lines[pc] = [found.symtab.fullname() if found.symtab else "", found.line]
    found = {"variables": sorted(variables), "functions": sorted(functions), "types": types, "lines": lines}
    print(json.dumps(found))


main()
