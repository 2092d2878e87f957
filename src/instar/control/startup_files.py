"""Start-up rules for names: what the new version did not make itself is changed at commit, not before."""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from dataclasses import replace

from instar.control.held import Held, timespecs
from instar.control.paths import FileFacts, Place
from instar.control.startup_answers import (
    AT_FDCWD,
    Alter,
    Answer,
    Call,
    Fake,
    Note,
    Refuse,
    Rule,
    Run,
    Situation,
    deny,
)
from instar.process.status import Status
from instar.process.syscalls import NUMBERS

_AT_SYMLINK_NOFOLLOW, _AT_REMOVEDIR, _AT_SYMLINK_FOLLOW, _AT_EMPTY_PATH = 0x100, 0x200, 0x400, 0x1000
_O_TMPFILE = 0o20000000
_RENAME_NOREPLACE = 1
_CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_FOWNER = 0, 1, 3
_MODE_BITS = 0o7777
_NO_CHANGE = 0xFFFFFFFF
FORBIDDEN_REMEDY = (
    "give --allow startup-forbidden if it may be done twice, or have the program do it after its start"
)


def forbidden(what: str) -> Refuse:
    """Something that nobody can take back."""
    return Refuse("startup-forbidden", f"the new version {what} while it starts", FORBIDDEN_REMEDY)


# ---------------------------------------------------------------------------------------- rights


def may_change_directory(status: Status, directory: FileFacts, facts: FileFacts | None) -> bool:
    """Whether a process may make or remove a name: mode bits, capabilities, sticky directories."""
    if not permits(status, directory, 3):
        return False
    if not directory.mode & stat.S_ISVTX or facts is None or _capable(status, _CAP_FOWNER):
        return True
    return status.uids[1] in (facts.uid, directory.uid)


def permits(status: Status, facts: FileFacts, wanted: int) -> bool:
    """Whether the mode bits (4 read, 2 write, 1 execute) let a process in."""
    if _capable(status, _CAP_DAC_OVERRIDE):
        return True
    if status.uids[3] == facts.uid:
        bits = facts.mode >> 6
    elif facts.gid in (status.gids[3], *status.groups):
        bits = facts.mode >> 3
    else:
        bits = facts.mode
    return bits & wanted == wanted


def _owns(status: Status, facts: FileFacts) -> bool:
    return status.uids[3] == facts.uid or _capable(status, _CAP_FOWNER)


def _capable(status: Status, capability: int) -> bool:
    return bool(status.capabilities["effective"] >> capability & 1)


# ---------------------------------------------------------------------------------------- opening


def rule_open(call: Call, situation: Situation) -> Answer:
    """open, openat, openat2, creat."""
    base, index, flags, flags_index = _open_arguments(call, situation)
    writes = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
    exclusive = flags & os.O_CREAT and flags & os.O_EXCL
    opened = Note(descriptor=True)
    follow = not (flags & os.O_NOFOLLOW or exclusive)
    place = situation.place(base, call.arguments[index], follow=follow)
    if place is None or (flags & os.O_PATH and not situation.overlaid):
        return Run(opened)
    if of_past(place, situation):
        return deny(errno.ENOENT)
    if writes and (refused := _judge_writing(place, flags, situation)) is not None:
        return refused
    if not place.exists:
        return _open_new(call, situation, place, index, flags)
    return _open_there(place, index, flags, flags_index, writes, opened)


def _open_arguments(call: Call, situation: Situation) -> tuple[int, int, int, int]:
    """Directory, index of the path, flags, index of the flags (-1: they cannot be changed)."""
    arguments = call.arguments
    match call.name:
        case "open":
            return AT_FDCWD, 0, arguments[1], 1
        case "creat":
            return AT_FDCWD, 0, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, -1
        case "openat2":
            (flags,) = struct.unpack("<Q", situation.read(arguments[2], 8))
            return call.signed(0), 1, flags, -1
        case _:
            return call.signed(0), 1, arguments[2], 2


def _open_new(call: Call, situation: Situation, place: Place, index: int, flags: int) -> Answer:
    if not flags & os.O_CREAT:
        return deny(errno.ENOENT) if place.absent else Run(Note(descriptor=True))
    if place.text.startswith(("/dev/shm/", "/dev/mqueue/")):
        return forbidden(f"makes the shared memory or semaphore {place.text}")
    if place.absent:
        return make_shadow(situation, place, index, descriptor=True)
    return Run(Note(descriptor=True, created=place))


def make_shadow(situation: Situation, place: Place, index: int, *, descriptor: bool = False) -> Answer:
    """Make the object under another name; it is renamed into place at commit."""
    if not may_change_directory(situation.status, place.directory_facts, None):
        return deny(errno.EACCES)
    shadow = situation.shadow(place)
    note = Note(descriptor=descriptor, created=shadow, shown_as=place)
    return Alter(paths={index: os.fsencode(shadow.text)}, note=note)


def _open_there(place: Place, index: int, flags: int, flags_index: int, writes: bool, opened: Note) -> Answer:
    assert place.facts is not None
    paths = {index: os.fsencode(place.real_text)} if place.moved else {}
    changed = flags
    held: tuple[Held, ...] = ()
    if flags & os.O_CREAT and flags & os.O_EXCL:
        if not place.claimed:
            return deny(errno.EEXIST) if place.moved else Run(opened)
        changed &= ~(os.O_CREAT | os.O_EXCL)
        writes, flags = True, flags | os.O_TRUNC
    if writes and place.foreign and place.facts.regular and flags & os.O_TRUNC:
        changed &= ~os.O_TRUNC
        if place.facts.size:
            held = (Held("truncate", place.text, entry=place.entry, values=(0,)),)
    if changed == flags and not paths and not held:
        return Run(opened)
    if changed != flags and flags_index < 0:
        return _open_otherwise(index, changed, paths, held, opened)
    arguments = {flags_index: changed} if changed != flags else {}
    return Alter(arguments=arguments, paths=paths, held=held, note=opened)


def _open_otherwise(
    index: int, flags: int, paths: dict[int, bytes], held: tuple[Held, ...], opened: Note
) -> Answer:
    """creat(path, mode) becomes open(path, flags); openat2 asks too much to be changed."""
    if index != 0:
        return forbidden("opens a file of somebody else exclusively with openat2")
    return Alter(arguments={1: flags, 2: 0}, paths=paths, held=held, note=opened, number=NUMBERS["open"])


def _judge_writing(place: Place, flags: int, situation: Situation) -> Refuse | None:
    """Files that are no files: settings of the kernel, disks."""
    text = place.text
    if text.startswith(("/proc/sys/", "/sys/")):
        return forbidden(f"writes the kernel setting {text}")
    if text.startswith("/proc/") and text.split("/")[2] not in (*situation.own_pids, "self", "thread-self"):
        return forbidden(f"writes {text}")
    if place.facts is not None and stat.S_ISBLK(place.facts.mode):
        return forbidden(f"writes the block device {text}")
    return None


def of_past(place: Place, situation: Situation) -> bool:
    """Whether it is the past's /proc directory: the past looks as if it were not there."""
    own = f"/proc/{situation.past.pid}"
    return place.text == own or place.text.startswith(own + "/")


# ---------------------------------------------------------------------------------------- looking

_LOOKS: dict[str, tuple[int, int, int]] = {
    # index of the directory (-1: working directory), the path, the flags (-1: follows, -2: does not)
    "stat": (-1, 0, -1), "lstat": (-1, 0, -2), "access": (-1, 0, -1), "readlink": (-1, 0, -2),
    "statfs": (-1, 0, -1), "newfstatat": (0, 1, 3), "readlinkat": (0, 1, -2), "faccessat": (0, 1, -1),
    "faccessat2": (0, 1, 3), "statx": (0, 1, 2), "getxattr": (-1, 0, -1), "lgetxattr": (-1, 0, -2),
    "listxattr": (-1, 0, -1), "llistxattr": (-1, 0, -2), "inotify_add_watch": (-1, 1, -1),
}  # fmt: skip


def rule_look(call: Call, situation: Situation) -> Answer:
    """stat and its like see what is held back as done, and no pid file of the past.

    A server may take the file for the server. Once looked for in vain it is gone for all calls, so that what
    the new version then makes in its place is its own.
    """
    base_index, index, flags_index = _LOOKS[call.name]
    base = AT_FDCWD if base_index < 0 else call.signed(base_index)
    flags = call.arguments[flags_index] if flags_index >= 0 else 0
    follow = flags_index != -2 and not flags & _AT_SYMLINK_NOFOLLOW
    place = situation.place(base, call.arguments[index], follow=follow)
    if place is None:
        return Run()
    if place.names_past and call.name != "inotify_add_watch":
        return Fake(-errno.ENOENT, hides=(place,))
    if of_past(place, situation) or place.absent:
        return deny(errno.ENOENT)
    return Alter(paths={index: os.fsencode(place.real_text)}) if place.moved else Run()


# -------------------------------------------------------------------------------------- removing and renaming


def rule_unlink(call: Call, situation: Situation) -> Answer:
    """unlink, unlinkat, rmdir."""
    at = call.name == "unlinkat"
    directory = call.name == "rmdir" or (at and bool(call.arguments[2] & _AT_REMOVEDIR))
    index = 1 if at else 0
    place = situation.place(call.signed(0) if at else AT_FDCWD, call.arguments[index], follow=False)
    if place is None:
        return Run()
    if not place.exists or place.facts is None:
        return deny(errno.ENOENT) if place.absent else Run()
    if place.facts.directory != directory:
        return Run()  # fails by itself
    if place.created and not place.moved:
        return Run(Note(removed=place))
    if not may_change_directory(situation.status, place.directory_facts, place.facts):
        return deny(errno.EACCES)
    if place.owner is not None or (place.claimed and stat.S_ISFIFO(place.facts.mode)):
        return Fake(0, hides=(place,))
    if directory and not situation.is_empty(place):
        return deny(errno.ENOTEMPTY)
    return Fake(0, held=(Held("rmdir" if directory else "unlink", place.text, entry=place.entry),))


def rule_rename(call: Call, situation: Situation) -> Answer:
    """rename, renameat, renameat2."""
    plain = call.name == "rename"
    first, second = (0, 1) if plain else (1, 3)
    flags = call.arguments[4] if call.name == "renameat2" else 0
    source = situation.place(AT_FDCWD if plain else call.signed(0), call.arguments[first], follow=False)
    target = situation.place(AT_FDCWD if plain else call.signed(2), call.arguments[second], follow=False)
    if source is None or target is None:
        return Run()
    if not source.exists or source.facts is None:
        return deny(errno.ENOENT) if source.absent else Run()
    if flags & ~_RENAME_NOREPLACE:
        return forbidden(f"exchanges {source.text} and {target.text}")
    own = source.created and not source.moved
    if own and not target.absent and not target.moved and (target.created or not target.exists):
        return Run(Note(removed=source, created=target))
    if flags and target.exists:
        return deny(errno.EEXIST)
    return _hold_rename(situation, source, target)


def _hold_rename(situation: Situation, source: Place, target: Place) -> Answer:
    assert source.facts is not None
    if source.facts.directory:
        return forbidden(f"renames the directory {source.text}")
    for place in (source, target):
        if not may_change_directory(situation.status, place.directory_facts, place.facts):
            return deny(errno.EACCES)
    if target.facts is not None and target.facts.directory:
        return deny(errno.EISDIR)
    text = f"{source.text} to {target.text}"
    return Fake(0, held=(Held("rename", text, entry=source.entry, target=target.entry),))


# ---------------------------------------------------------------------------------------- making names

_MAKERS: dict[str, tuple[int, int]] = {  # index of the directory, index of the path
    "mkdir": (-1, 0), "mkdirat": (0, 1), "mknod": (-1, 0), "mknodat": (0, 1), "symlink": (-1, 1),
    "symlinkat": (1, 2), "link": (-1, 1), "linkat": (2, 3),
}  # fmt: skip
_MODE_INDEX = {"mknod": 1, "mknodat": 2}


def rule_make(call: Call, situation: Situation) -> Answer:
    """mkdir, mknod, symlink, link: run, and are undone on abort."""
    base, index = _MAKERS[call.name]
    if call.name in _MODE_INDEX:
        mode = call.arguments[_MODE_INDEX[call.name]]
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            return forbidden("makes a device file")
    place = situation.place(AT_FDCWD if base < 0 else call.signed(base), call.arguments[index], follow=False)
    if place is None:
        return Run()
    if place.exists:
        return deny(errno.EEXIST) if place.moved else Run()
    if place.hidden:
        return Fake(0, shows=(place,))
    if place.absent:
        return make_shadow(situation, place, index)
    return Run(Note(created=place))


# ---------------------------------------------------------------------------------------- attributes


def rule_chmod(call: Call, situation: Situation) -> Answer:
    """chmod, fchmodat, fchmodat2."""
    if call.name == "chmod":
        base, index = AT_FDCWD, 0
    else:
        base, index = call.signed(0), 1
    mode = call.arguments[index + 1] & _MODE_BITS
    place = situation.place(base, call.arguments[index])
    return _change(situation, place, index, Held("chmod", "", values=(mode,)))


def rule_chown(call: Call, situation: Situation) -> Answer:
    """chown, lchown, fchownat."""
    base, index, follow = AT_FDCWD, 0, call.name == "chown"
    if call.name == "fchownat":
        base, index = call.signed(0), 1
        follow = not call.arguments[4] & _AT_SYMLINK_NOFOLLOW
        if call.arguments[4] & _AT_EMPTY_PATH and not situation.read_path(call.arguments[1]):
            return Run()
    owner = (_identity(call.arguments[index + 1]), _identity(call.arguments[index + 2]))
    place = situation.place(base, call.arguments[index], follow=follow)
    return _change(situation, place, index, Held("chown", "", values=owner))


def _identity(value: int) -> int:
    value &= 0xFFFFFFFF
    return -1 if value == _NO_CHANGE else value


def _change(situation: Situation, place: Place | None, index: int, held: Held) -> Answer:
    if place is None:
        return Run()
    if place.facts is None:
        return deny(errno.ENOENT) if place.absent else Run()
    if place.created:
        return Alter(paths={index: os.fsencode(place.real_text)}) if place.moved else Run()
    if not changes(held, place.facts):
        return Fake(0)
    if not may_change_attributes(situation.status, held, place.facts):
        return deny(errno.EPERM)
    return Fake(0, held=(replace(held, text=place.text, entry=place.entry),))


def changes(held: Held, facts: FileFacts) -> bool:
    """Whether a chmod or chown would change anything."""
    match held.verb:
        case "chmod" | "fchmod":
            return held.values[0] != facts.mode & _MODE_BITS
        case "chown" | "fchown":
            wanted = zip(held.values, (facts.uid, facts.gid), strict=True)
            return any(value not in (-1, present) for value, present in wanted)
        case _:
            return True


def may_change_attributes(status: Status, held: Held, facts: FileFacts) -> bool:
    """Whether the process might do it: the owner's mode, the privileged's owner."""
    if held.verb in ("chown", "fchown"):
        user, group = held.values
        if _capable(status, _CAP_CHOWN):
            return True
        mine = group in (-1, facts.gid, status.gids[1], *status.groups)
        return status.uids[3] == facts.uid and user in (-1, facts.uid) and mine
    return _owns(status, facts)


def rule_truncate(call: Call, situation: Situation) -> Answer:
    """truncate by name."""
    place = situation.place(AT_FDCWD, call.arguments[0])
    if place is None or place.facts is None or not place.facts.regular:
        return deny(errno.ENOENT) if place is not None and place.absent else Run()
    if place.created:
        return Alter(paths={0: os.fsencode(place.real_text)}) if place.moved else Run()
    if not permits(situation.status, place.facts, 2):
        return deny(errno.EACCES)
    return Fake(0, held=(Held("truncate", place.text, entry=place.entry, values=(call.arguments[1],)),))


def rule_times(call: Call, situation: Situation) -> Answer:
    """utime, utimes, futimesat, utimensat on names."""
    at = call.name in ("utimensat", "futimesat")
    index = 1 if at else 0
    if not call.arguments[index]:
        return _times_of_descriptor(call, situation)
    follow = not (call.name == "utimensat" and call.arguments[3] & _AT_SYMLINK_NOFOLLOW)
    place = situation.place(call.signed(0) if at else AT_FDCWD, call.arguments[index], follow=follow)
    if place is None or place.facts is None:
        return deny(errno.ENOENT) if place is not None and place.absent else Run()
    if place.created:
        return Alter(paths={index: os.fsencode(place.real_text)}) if place.moved else Run()
    if not _owns(situation.status, place.facts) and not permits(situation.status, place.facts, 2):
        return deny(errno.EACCES)
    times = _read_times(call, situation, index + 1)
    held = (Held("times", place.text, entry=place.entry, values=times),) if times is not None else ()
    return Fake(0, held=held)


def _times_of_descriptor(call: Call, situation: Situation) -> Answer:
    handle = situation.handle(call.signed(0))
    return Fake(0) if handle is not None and handle.kind == "file" and not handle.created else Run()


def _read_times(call: Call, situation: Situation, index: int) -> tuple[int, int] | None:
    address = call.arguments[index]
    now = time.time_ns()
    if not address:
        return now, now
    if call.name == "utime":
        access, change = struct.unpack("<qq", situation.read(address, 16))
        return access * 10**9, change * 10**9
    data = situation.read(address, 32)
    if call.name == "utimensat":
        return timespecs(data, now)
    words = struct.unpack("<qqqq", data)
    return words[0] * 10**9 + words[1] * 1000, words[2] * 10**9 + words[3] * 1000


def rule_attribute(call: Call, situation: Situation) -> Answer:
    """Extended attributes of what it has not made: refused."""
    if call.name.startswith("f"):
        handle = situation.handle(call.signed(0))
        if handle is None or handle.created or handle.kind != "file":
            return Run()
        return forbidden(f"changes extended attributes of {handle.target}")
    place = situation.place(AT_FDCWD, call.arguments[0], follow=not call.name.startswith("l"))
    if place is None or not place.foreign:
        return Run()
    return forbidden(f"changes extended attributes of {place.text}")


RULES: dict[str, Rule] = {
    **dict.fromkeys(("open", "openat", "openat2", "creat"), rule_open),
    **dict.fromkeys(_LOOKS, rule_look),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), rule_unlink),
    **dict.fromkeys(("rename", "renameat", "renameat2"), rule_rename),
    **dict.fromkeys(_MAKERS, rule_make),
    **dict.fromkeys(("chmod", "fchmodat", "fchmodat2"), rule_chmod),
    **dict.fromkeys(("chown", "lchown", "fchownat"), rule_chown),
    "truncate": rule_truncate,
    **dict.fromkeys(("utime", "utimes", "futimesat", "utimensat"), rule_times),
    **dict.fromkeys(
        ("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"), rule_attribute
    ),
}
