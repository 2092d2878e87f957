"""A pool of NUL-terminated strings that rows of columns refer to by offset."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class StringPool:
    """Read-only view of a pool; offset 0 is the empty string.

    Args:
        data: The pool, uint8; the last byte must be NUL.
    """

    def __init__(self, data: npt.NDArray[np.uint8] | bytes) -> None:
        self.data = data if isinstance(data, bytes) else data.tobytes()
        self._known: dict[int, str] = {0: ""}

    def __len__(self) -> int:
        return len(self.data)

    def text(self, offset: int) -> str:
        """The string that starts at an offset; bytes that are not UTF-8 come as surrogate escapes."""
        found = self._known.get(offset)
        if found is None:
            end = self.data.index(b"\0", offset)
            found = self.data[offset:end].decode("utf-8", "surrogateescape")
            self._known[offset] = found
        return found

    def find(self, text: str) -> int | None:
        """Offset of a whole string of the pool, None if it has no such string.

        Pools hold each string once, so equal offsets mean equal strings.
        """
        if not text:
            return 0
        wanted = text.encode("utf-8", "surrogateescape")
        if self.data.startswith(wanted + b"\0"):
            return 0
        place = self.data.find(b"\0" + wanted + b"\0")
        return None if place < 0 else place + 1
