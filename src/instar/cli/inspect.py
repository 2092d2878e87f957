"""`instar inspect PID [EXPR]`: variables of a running program, or its objects counted."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from instar.cli.arguments import parse_pid
from instar.cli.failures import print_document
from instar.cli.wording import format_bytes

if TYPE_CHECKING:
    from instar.update.look import Census

_EPILOG = """\
examples:
  instar inspect 4711                              objects and bytes by type
  instar inspect 4711 'server.clients[3]->name'    a value, as in C
  instar inspect 4711 '*head' --json
  instar inspect 4711 cache.c:table                a static variable of cache.c (function:name likewise)

The process is stopped only while it is read."""
_INSPECT_SCHEMA = 1
_SHOWN = 40


def prepare_parser(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("pid", metavar="PID", type=parse_pid, help="the running program")
    parser.add_argument("expression", metavar="EXPR", nargs="?", help="variable, members, elements, as in C")
    parser.add_argument("--depth", type=int, default=4, metavar="N", help="nested levels shown (default 4)")


def run(arguments: argparse.Namespace) -> int:
    """Read and print."""
    if arguments.expression is None:
        return _census(arguments)
    from instar.update.examine import evaluate_live

    value = evaluate_live(arguments.pid, arguments.expression, arguments.depth)
    rendered = value.rendered
    if arguments.json:
        document = {
            "schema": _INSPECT_SCHEMA,
            "pid": arguments.pid,
            "expression": arguments.expression,
            "type": value.type_name,
            "address": f"{value.address:#x}",
            "size": value.size,
            "value": rendered,
        }
        print_document(document)
    else:
        print(f"({value.type_name}) {arguments.expression} = " + "\n".join(pretty(rendered, 0)))
    return 0


def pretty(value: Any, indent: int) -> list[str]:
    """Lines of C-like text for rendered plain data."""
    pad = "  " * (indent + 1)
    if isinstance(value, dict):
        lines = ["{"]
        for name, inner in value.items():
            first, *rest = pretty(inner, indent + 1)
            lines += [f"{pad}.{name} = {first}", *rest]
            lines[-1] += ","
        return [*lines, "  " * indent + "}"]
    if isinstance(value, list):
        if all(not isinstance(v, dict | list) for v in value):
            return ["{" + ", ".join(_scalar(v) for v in value) + "}"]
        lines = ["{"]
        for inner in value:
            first, *rest = pretty(inner, indent + 1)
            lines += [f"{pad}{first}", *rest]
            lines[-1] += ","
        return [*lines, "  " * indent + "}"]
    return [_scalar(value)]


def _scalar(value: Any) -> str:
    if value is None:
        return "NULL"
    from instar.state.values import Symbol

    if isinstance(value, str) and not isinstance(value, Symbol):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _census(arguments: argparse.Namespace) -> int:
    from instar.update.examine import examine

    census: Census = examine(arguments.pid).census
    if arguments.json:
        document = {
            "schema": _INSPECT_SCHEMA,
            "pid": arguments.pid,
            "types": [
                {"type": t.type, "kind": t.kind, "objects": t.objects, "bytes": t.bytes} for t in census.types
            ],
            "heap": {"blocks": census.heap_blocks, "bytes": census.heap_bytes},
            "untyped": {"blocks": census.untyped_blocks, "bytes": census.untyped_bytes},
            "leaked": {"blocks": census.leaked_blocks, "bytes": census.leaked_bytes},
        }
        print_document(document)
        return 0
    width = max((len(t.type) for t in census.types[:_SHOWN]), default=4)
    print(f"{'type':{width}}  {'kind':8} {'objects':>10} {'bytes':>12}")
    for row in census.types[:_SHOWN]:
        print(f"{row.type:{width}}  {row.kind:8} {row.objects:>10,} {format_bytes(row.bytes):>12}")
    if len(census.types) > _SHOWN:
        print(f"... {len(census.types) - _SHOWN} more types (--json shows all)")
    share = 100 * census.untyped_bytes / census.heap_bytes if census.heap_bytes else 0.0
    print(f"heap: {census.heap_blocks:,} blocks, {format_bytes(census.heap_bytes)}; untyped {share:.1f} %")
    print(f"leaked: {census.leaked_blocks:,} blocks, {format_bytes(census.leaked_bytes)}")
    return 0
