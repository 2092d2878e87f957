"""What the kernel tells of mappings besides their lines."""

from __future__ import annotations

import mmap
import os

from instar.process.maps import read_maps
from instar.process.smaps import parse_smaps, read_smaps

TEXT = """55d0c0a00000-55d0c0a02000 r--p 00000000 08:01 7       /bin/a - b: c
Size:                  8 kB
Rss:                   0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
7f0000000000-7f0000001000 ---p 00000000 00:00 0
Rss:                   0 kB
Swap:                  4 kB
SwapPss:               0 kB
THPeligible:           0
VmFlags: mr mw me wf dd
"""


def test_pages_and_flags_of_each() -> None:
    first, second = parse_smaps(TEXT)
    assert (first.start, first.end, first.filled) == (0x55D0C0A00000, 0x55D0C0A02000, False)
    assert (second.start, second.end, second.filled) == (0x7F0000000000, 0x7F0000001000, True)
    assert {"wf", "dd"} <= second.flags and not {"wf", "dd"} & first.flags


def test_this_process_is_described_whole() -> None:
    with mmap.mmap(-1, 3 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_DONTFORK)
        area[0] = 1
        found = read_smaps(os.getpid())
        assert any(one.filled and "dc" in one.flags for one in found)
    known = {mapping.start for mapping in read_maps(os.getpid())}
    assert len(known & {one.start for one in found}) > 10
