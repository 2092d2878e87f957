"""Runs inside gdb: prints the frames of the process it is attached to as one line of JSON."""

import json
import re

import gdb  # type: ignore[import-not-found]

REGISTERS = ("rbx", "rbp", "rsp", "r12", "r13", "r14", "r15")


def value_of(frame, name):
    value = frame.read_register(name)
    return None if value.is_optimized_out else int(value) & (1 << 64) - 1


def info_of(frame):
    frame.select()
    text = gdb.execute("info frame", to_string=True)
    cfa = re.search(r"frame at (0x[0-9a-f]+)", text)
    saved = re.search(r"Saved registers:\s*(.*)", text, re.S)
    pairs = re.findall(r"(\w+) at (0x[0-9a-f]+)", saved[1]) if saved else []
    return (int(cfa[1], 16) if cfa else 0), {name: int(address, 16) for name, address in pairs}


def frames():
    gdb.execute("set backtrace past-main on")
    gdb.execute("set backtrace past-entry on")
    found, known = [], {}
    frame = gdb.newest_frame()
    while frame is not None:
        if frame.type() in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            frame = frame.older()
            continue
        cfa, saved = info_of(frame)
        older = frame.older()
        found.append(
            {
                "pc": frame.pc(),
                "name": frame.name(),
                "cfa": cfa,
                "signal": frame.type() == gdb.SIGTRAMP_FRAME,
                "outermost": older is None,
                "registers": {name: value_of(frame, name) for name in REGISTERS},
                # gdb tells what a frame has saved: where the values of the frames outside of it are.
                "saved": dict(known),
            }
        )
        known.update(saved)
        frame = older
    return found


print("FRAMES " + json.dumps(frames()))
