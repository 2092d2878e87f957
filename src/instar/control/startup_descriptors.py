"""Start-up rules for open descriptors: what would reach the past's files, clients or locks."""

from __future__ import annotations

import errno
import os
import struct

from instar.control.held import Held
from instar.control.startup_answers import (
    Answer,
    Call,
    Fake,
    Handle,
    Note,
    Rule,
    Run,
    Situation,
    deny,
)
from instar.control.startup_files import changes, forbidden, may_change_attributes
from instar.control.startup_sockets import gather, hold_output, judge_data

MAX_HELD_BYTES = 64 << 20
_F_DUPFD, _F_SETFL, _F_GETLK, _F_SETLK, _F_SETLKW, _F_SETOWN, _F_SETSIG = 0, 4, 5, 6, 7, 8, 10
_F_SETOWN_EX, _F_OFD_GETLK, _F_OFD_SETLK, _F_OFD_SETLKW, _F_DUPFD_CLOEXEC = 15, 36, 37, 38, 1030
_F_UNLCK = 2
_SETTABLE = os.O_APPEND | os.O_NONBLOCK | 0o40000 | 0o20000 | 0o1000000  # and O_DIRECT, O_ASYNC, O_NOATIME
_MAP_SHARED, _PROT_WRITE = 1, 2
_EPOLL_ADD, _EPOLL_DELETE, _EPOLL_MODIFY = 1, 2, 3
_SEEK_SET, _SEEK_CUR, _SEEK_END = 0, 1, 2
_MAP_KIND_MASK = 3
_AIO_WRITES = (1, 8)


def _keeps_back(handle: Handle) -> bool:
    """A plain file that the new version has not made: what is written to it is held."""
    return handle.kind == "file" and not handle.created and not handle.target.startswith("/proc/")


def rule_write(call: Call, situation: Situation) -> Answer:
    """write, pwrite64, writev, pwritev, pwritev2."""
    handle = situation.handle(call.signed(0))
    if handle is None:
        return Run()
    if handle.inherited or (handle.lent and handle.kind != "socket"):
        return hold_output(handle, _data(call, situation))
    if handle.kind == "socket":
        return judge_data(call, situation, handle, lambda: _data(call, situation))
    if not _keeps_back(handle):
        return Run(output=_data(call, situation) if handle.number in (1, 2) else b"")
    data = _data(call, situation)
    if situation.bytes_held() + len(data) > MAX_HELD_BYTES:
        return forbidden(
            f"writes more than {MAX_HELD_BYTES >> 20} MiB to {handle.target}, which it has not made,"
        )
    offset = _signed(call.arguments[3]) if call.name.startswith("p") else -1
    held = Held("write", handle.target, number=handle.number, values=(offset,), data=data)
    return Fake(len(data), held=(held,))


def _data(call: Call, situation: Situation) -> bytes:
    if call.name in ("writev", "pwritev", "pwritev2"):
        return gather(situation, call.arguments[1], call.arguments[2])
    return situation.read(call.arguments[1], call.arguments[2]) if call.arguments[2] else b""


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def rule_read(call: Call, situation: Situation) -> Answer:
    """read and its like: nothing comes from what the past reads; what was held back cannot be read again."""
    handle = situation.handle(call.signed(0))
    if handle is None:
        return Run()
    if handle.mute:
        return deny(errno.EAGAIN)
    if handle.kind == "file" and handle.written:
        return forbidden(f"reads {handle.target} again, to which it has written (that is held back)")
    return Run()


def rule_copy(call: Call, situation: Situation) -> Answer:
    """sendfile, splice, copy_file_range, tee: programs do it themselves where this fails."""
    index = {"sendfile": 0, "splice": 2, "copy_file_range": 2, "tee": 1, "vmsplice": 0}[call.name]
    handle = situation.handle(call.signed(index))
    source = {"sendfile": 1, "splice": 0, "copy_file_range": 0, "tee": 0, "vmsplice": 0}[call.name]
    origin = situation.handle(call.signed(source))
    if handle is not None and (handle.inherited or handle.past or _keeps_back(handle)):
        return deny(errno.EINVAL)
    return deny(errno.EAGAIN) if origin is not None and origin.mute else Run()


def rule_submit(call: Call, situation: Situation) -> Answer:
    """io_submit: asynchronous writes to what it has not made are refused."""
    count = min(call.arguments[1], 1024)
    pointers = struct.unpack(f"<{count}Q", situation.read(call.arguments[2], 8 * count))
    for pointer in pointers:
        (operation, _, number) = struct.unpack("<HhI", situation.read(pointer + 16, 8))
        handle = situation.handle(number)
        if operation in _AIO_WRITES and handle is not None and (handle.past or _keeps_back(handle)):
            return forbidden(f"writes {handle.target} asynchronously")
    return Run()


def rule_io_uring(call: Call, situation: Situation) -> Answer:
    """io_uring goes around every rule; programs do without it."""
    return deny(errno.ENOSYS)


def rule_truncate(call: Call, situation: Situation) -> Answer:
    """ftruncate, fallocate."""
    handle = situation.handle(call.signed(0))
    if handle is None or not _keeps_back(handle):
        return Run()
    if call.name == "fallocate":
        return Fake(0)
    length = _signed(call.arguments[1])
    if length < 0:
        return deny(errno.EINVAL)
    return Fake(0, held=(Held("ftruncate", handle.target, number=handle.number, values=(length,)),))


def rule_attributes(call: Call, situation: Situation) -> Answer:
    """fchmod, fchown."""
    handle = situation.handle(call.signed(0))
    if handle is None or handle.created:
        return Run()
    if handle.kind not in ("file", "directory"):
        return Fake(0) if handle.past else Run()
    facts = situation.facts(handle)
    if facts is None:
        return Run()
    if call.name == "fchmod":
        held = Held("fchmod", handle.target, number=handle.number, values=(call.arguments[1] & 0o7777,))
    else:
        values = tuple(-1 if a & 0xFFFFFFFF == 0xFFFFFFFF else a & 0xFFFFFFFF for a in call.arguments[1:3])
        held = Held("fchown", handle.target, number=handle.number, values=values)
    if not changes(held, facts):
        return Fake(0)
    return (
        Fake(0, held=(held,)) if may_change_attributes(situation.status, held, facts) else deny(errno.EPERM)
    )


def rule_seek(call: Call, situation: Situation) -> Answer:
    """lseek on an open file shared with the past would move the past's position."""
    handle = situation.handle(call.signed(0))
    if handle is None or not handle.inherited or handle.kind != "file":
        return Run()
    facts = situation.facts(handle)
    offset, whence = _signed(call.arguments[1]), call.arguments[2] & 0xFFFFFFFF
    if facts is None or whence == _SEEK_CUR:
        return Run() if not offset else deny(errno.ESPIPE)
    return Fake(offset + (facts.size if whence == _SEEK_END else 0))


def rule_map(call: Call, situation: Situation) -> Answer:
    """mmap: writing to a shared file through memory cannot be held back."""
    protection, flags = call.arguments[2], call.arguments[3]
    if not flags & _MAP_SHARED or not protection & _PROT_WRITE or call.signed(4) < 0:
        return Run()
    handle = situation.handle(call.signed(4))
    if handle is None or handle.kind != "file" or handle.created:
        return Run()
    return forbidden(f"maps {handle.target}, which it has not made, for shared writing")


# ---------------------------------------------------------------------------------------- locks and flags


def _locked_by_past(handle: Handle, situation: Situation) -> bool:
    return handle.inherited or (handle.device, handle.inode) in situation.past.locked


def rule_flock(call: Call, situation: Situation) -> Answer:
    """flock on a file that the past has locked: got."""
    handle = situation.handle(call.signed(0))
    return Fake(0) if handle is not None and _locked_by_past(handle, situation) else Run()


def rule_fcntl(call: Call, situation: Situation) -> Answer:
    """Record locks of the past are got; flags of a shared open file are set at commit."""
    command = call.signed(1)
    if command in (_F_DUPFD, _F_DUPFD_CLOEXEC):
        return Run(Note(descriptor=True))
    handle = situation.handle(call.signed(0))
    if handle is None:
        return Run()
    if command in (_F_SETLK, _F_SETLKW, _F_OFD_SETLK, _F_OFD_SETLKW):
        return Fake(0) if _locked_by_past(handle, situation) else Run()
    if command in (_F_GETLK, _F_OFD_GETLK):
        unlocked = ((call.arguments[2], struct.pack("<h", _F_UNLCK)),)
        return Fake(0, stores=unlocked) if _locked_by_past(handle, situation) else Run()
    if not handle.inherited and not handle.lent:
        return Run()
    if command in (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX):
        return Fake(0)
    if command == _F_SETFL:
        return _set_flags(handle, call.arguments[2], situation)
    return Run()


def _set_flags(handle: Handle, flags: int, situation: Situation) -> Answer:
    present = situation.open_flags(handle.number)
    if (present ^ flags) & _SETTABLE == 0:
        return Fake(0)
    held = Held("flags", handle.target, number=handle.number, values=(flags & _SETTABLE,))
    return Fake(0, held=(held,))


# ---------------------------------------------------------------------------------------- epoll


def rule_epoll(call: Call, situation: Situation) -> Answer:
    """epoll_ctl of what must stay silent is recorded and done at commit."""
    epoll, operation, number = call.signed(0), call.signed(1), call.signed(2)
    handle = situation.handle(number)
    if handle is None or not handle.mute or situation.handle(epoll) is None:
        return Run()
    known = (epoll, number) in situation.registrations()
    if operation == _EPOLL_ADD and known:
        return deny(errno.EEXIST)
    if operation != _EPOLL_ADD and not known:
        # Added before its listen was held back: take it out of the real set.
        return Run()
    events = data = 0
    if operation != _EPOLL_DELETE:
        events, data = struct.unpack("<IQ", situation.read(call.arguments[3], 12))
    return Fake(0, register=(epoll, operation, number, events, data))


def rule_new(call: Call, situation: Situation) -> Answer:
    """A call that makes a descriptor."""
    return Run(Note(descriptor=True))


def rule_pipe(call: Call, situation: Situation) -> Answer:
    """A call that makes two."""
    return Run(Note(pair_address=call.arguments[0]))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("write", "pwrite64", "writev", "pwritev", "pwritev2"), rule_write),
    **dict.fromkeys(("read", "pread64", "readv", "preadv", "preadv2"), rule_read),
    **dict.fromkeys(("sendfile", "splice", "copy_file_range", "tee"), rule_copy),
    "io_submit": rule_submit,
    "io_uring_setup": rule_io_uring,
    "ftruncate": rule_truncate,
    "fallocate": rule_truncate,
    "fchmod": rule_attributes,
    "fchown": rule_attributes,
    "lseek": rule_seek,
    "mmap": rule_map,
    "flock": rule_flock,
    "fcntl": rule_fcntl,
    "epoll_ctl": rule_epoll,
    **dict.fromkeys(("pipe", "pipe2"), rule_pipe),
    **dict.fromkeys(
        (
            "dup", "epoll_create", "epoll_create1", "eventfd", "eventfd2", "timerfd_create", "signalfd",
            "signalfd4", "inotify_init", "inotify_init1", "memfd_create", "pidfd_open", "fanotify_init",
            "userfaultfd", "open_by_handle_at", "pidfd_getfd",
        ),
        rule_new,
    ),
}  # fmt: skip
