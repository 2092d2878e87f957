"""What libc keeps for a program in memory that nobody can read by type: named in a warning. Pure.

Start-up does again what most programs do once (``setlocale``, ``atexit``, ``openlog``); these are not named.
"""

from __future__ import annotations

from instar.metadata.version import Version

_KEPT = {
    "strtok": "where strtok goes on",
    "rand": "the sequence of random numbers",
    "random": "the sequence of random numbers",
    "drand48": "the sequence of random numbers",
    "lrand48": "the sequence of random numbers",
    "mrand48": "the sequence of random numbers",
    "getpwent": "the place in the list of users",
    "getgrent": "the place in the list of groups",
    "gethostent": "the place in the list of hosts",
    "hsearch": "the hash table of hsearch",
}


def libc_state_warning(version: Version) -> str | None:
    """One line for all functions of libc the program uses whose memory is not carried."""
    elf = version.elf
    used = [name for name in _KEPT if any(elf.symbols["section"][row] == 0 for row in elf.find_symbols(name))]
    if not used:
        return None
    kept = list(dict.fromkeys(_KEPT[name] for name in used))
    return f"libc-state: not carried, the new version has its own ({', '.join(used)}): {'; '.join(kept)}"
