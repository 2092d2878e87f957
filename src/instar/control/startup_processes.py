"""Start-up rules for other processes and for the system: the past is not there, others are left alone."""

from __future__ import annotations

import errno
import struct

from instar.control.startup_answers import Answer, Call, Fake, Note, Refuse, Rule, Run, Situation, deny
from instar.control.startup_files import FORBIDDEN_REMEDY, forbidden

_IPC_CREAT = 0o1000
_SIOCS = {  # changes of the network's configuration (linux/sockios.h)
    0x890B: "SIOCADDRT", 0x890C: "SIOCDELRT", 0x8914: "SIOCSIFFLAGS", 0x8916: "SIOCSIFADDR",
    0x8918: "SIOCSIFDSTADDR", 0x891A: "SIOCSIFBRDADDR", 0x891C: "SIOCSIFNETMASK", 0x891E: "SIOCSIFMETRIC",
    0x8922: "SIOCSIFMTU", 0x8923: "SIOCSIFNAME", 0x8924: "SIOCSIFHWADDR", 0x8930: "SIOCSIFSLAVE",
    0x8931: "SIOCADDMULTI", 0x8932: "SIOCDELMULTI", 0x8934: "SIOCSIFPFLAGS", 0x8936: "SIOCDIFADDR",
    0x8937: "SIOCSIFHWBROADCAST", 0x8943: "SIOCSIFTXQLEN", 0x8953: "SIOCDARP", 0x8955: "SIOCSARP",
    0x8960: "SIOCDRARP", 0x8962: "SIOCSRARP", 0x8971: "SIOCSIFMAP", 0x8980: "SIOCADDDLCI",
    0x8983: "SIOCSIFVLAN", 0x8990: "SIOCBONDENSLAVE", 0x89A0: "SIOCBRADDBR", 0x89A1: "SIOCBRDELBR",
    0x89A2: "SIOCBRADDIF", 0x89A3: "SIOCBRDELIF", 0x89B0: "SIOCSHWTSTAMP", 0x400454CA: "TUNSETIFF",
}  # fmt: skip
_TERMINAL_SETTINGS = (0x5402, 0x5403, 0x5404, 0x5406, 0x5407, 0x5408, 0x5410, 0x5414, 0x5423)
_FIONBIO, _TIOCSTI, _TIOCSCTTY, _FIONREAD = 0x5421, 0x5412, 0x540E, 0x541B
_DEFAULT_PATH_FREE = {  # calls that are forbidden whatever their arguments
    "mount": "mounts a file system", "umount2": "unmounts a file system",
    "pivot_root": "changes the root mount",
    "move_mount": "mounts a file system", "mount_setattr": "changes a mount",
    "fsconfig": "mounts a file system",
    "sethostname": "sets the host name", "setdomainname": "sets the domain name",
    "reboot": "reboots the machine",
    "swapon": "changes the swap space", "swapoff": "changes the swap space", "acct": "changes accounting",
    "init_module": "loads a kernel module", "finit_module": "loads a kernel module",
    "delete_module": "removes a kernel module", "kexec_load": "loads a kernel",
    "kexec_file_load": "loads a kernel",
    "settimeofday": "sets the clock", "clock_settime": "sets the clock", "quotactl": "changes quotas",
    "iopl": "asks for access to hardware ports", "ioperm": "asks for access to hardware ports",
    "ptrace": "traces a process", "process_vm_writev": "writes another process's memory",
    "shmget": "uses System V shared memory", "shmat": "uses System V shared memory",
    "shmctl": "uses System V shared memory", "semget": "uses System V semaphores",
    "semctl": "uses System V semaphores", "msgget": "uses System V message queues",
    "msgctl": "uses System V message queues", "mq_unlink": "removes a POSIX message queue",
    "add_key": "changes kernel keys", "vhangup": "hangs up its terminal",
}  # fmt: skip
_O_CREAT = 0o100
_PR_SET_PDEATHSIG = 1
_ADJUST_MODES = 0


def rule_forbidden(call: Call, situation: Situation) -> Answer:
    """What nobody can take back."""
    return forbidden(_DEFAULT_PATH_FREE[call.name])


def rule_adjust(call: Call, situation: Situation) -> Answer:
    """adjtimex, clock_adjtime: reading is fine."""
    address = call.arguments[1 if call.name == "clock_adjtime" else 0]
    (modes,) = struct.unpack("<I", situation.read(address, 4))
    return Run() if modes == _ADJUST_MODES else forbidden("adjusts the clock")


def rule_queue(call: Call, situation: Situation) -> Answer:
    """mq_open: only what is there already, and that cannot be read."""
    if call.arguments[1] & _O_CREAT:
        return forbidden("makes a POSIX message queue")
    return Run(Note(descriptor=True))


def rule_ioctl(call: Call, situation: Situation) -> Answer:
    """Network configuration is refused; what would change a shared terminal or socket is not done."""
    request = call.arguments[1] & 0xFFFFFFFF
    if request in _SIOCS:
        return forbidden(f"changes the configuration of the network ({_SIOCS[request]})")
    handle = situation.handle(call.signed(0))
    if handle is None or not (handle.inherited or handle.past):
        return Run()
    if request == _TIOCSTI:
        return forbidden("types into the terminal")
    if request == _FIONREAD:
        return Fake(0, stores=((call.arguments[2], bytes(4)),))
    if request == _FIONBIO or request in _TERMINAL_SETTINGS:
        return Fake(0)
    return Run()


# ---------------------------------------------------------------------------------------- signals


def rule_kill(call: Call, situation: Situation) -> Answer:
    """kill: the past does not exist; nobody but the new version's own processes gets a signal."""
    pid, signal = call.signed(0), call.signed(1)
    if pid == situation.past.pid:
        return deny(errno.ESRCH)
    if pid == -1:
        return _refuse_signal(signal, "every process")
    if pid <= 0:
        return _kill_group(call.pid, -pid, signal, situation)
    if situation.is_family(pid) or signal == 0:
        return Run()
    return _refuse_signal(signal, f"process {pid}")


def _kill_group(caller: int, group: int, signal: int, situation: Situation) -> Answer:
    group = group or situation.group_of(caller) or 0
    if group == situation.past.pid and not situation.is_family(group):
        return deny(errno.ESRCH)
    if signal and not situation.is_own_group(group):
        return _refuse_signal(signal, f"process group {group}")
    return Run()


def rule_kill_thread(call: Call, situation: Situation) -> Answer:
    """tgkill, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo."""
    index = {"tgkill": 2, "rt_tgsigqueueinfo": 2}.get(call.name, 1)
    return rule_kill(
        Call(call.pid, call.number, call.name, (call.arguments[0], call.arguments[index])), situation
    )


def rule_pidfd_signal(call: Call, situation: Situation) -> Answer:
    """pidfd_send_signal: by the process that the descriptor stands for."""
    handle = situation.handle(call.signed(0))
    pid = situation.pid_of(call.signed(0)) if handle is not None and handle.kind == "pidfd" else None
    if pid is None:
        return Run()
    return rule_kill(Call(call.pid, call.number, "kill", (pid, call.arguments[1])), situation)


def rule_pidfd_open(call: Call, situation: Situation) -> Answer:
    """pidfd_open: the past does not exist."""
    if call.signed(0) == situation.past.pid:
        return deny(errno.ESRCH)
    return Run(Note(descriptor=True))


def _refuse_signal(signal: int, whom: str) -> Refuse:
    return Refuse(
        "startup-forbidden",
        f"the new version sends signal {signal} to {whom} while it starts",
        FORBIDDEN_REMEDY,
    )


def rule_session(call: Call, situation: Situation) -> Answer:
    """setsid by a process that we made a session leader: it has what it wants."""
    return Run(Note(settles=call.pid))


def rule_question(call: Call, situation: Situation) -> Answer:
    """Questions about a process, to see whether a pid file is stale: the past does not exist."""
    index = 1 if call.name in ("getpriority", "ioprio_get") else 0
    return deny(errno.ESRCH) if call.signed(index) == situation.past.pid else Run()


def rule_sibling(call: Call, situation: Situation) -> Answer:
    """Calls that change another process's scheduling or limits by PID."""
    index = 1 if call.name in ("setpriority", "ioprio_set") else 0
    pid = call.signed(index)
    if pid == situation.past.pid:
        return deny(errno.ESRCH)
    own = pid == 0 or situation.is_family(pid)
    harmless = call.name == "prlimit64" and not call.arguments[2]
    return Run() if own or harmless else forbidden(f"changes process {pid} ({call.name})")


def rule_prctl(call: Call, situation: Situation) -> Answer:
    """The signal at the parent's death: for now instar is the parent, and ends with the update."""
    return Fake(0) if call.signed(0) == _PR_SET_PDEATHSIG else Run()


_QUESTIONS = (
    "getsid", "getpgid", "getpriority", "ioprio_get", "sched_getscheduler", "sched_getparam",
    "sched_getaffinity", "sched_rr_get_interval",
)  # fmt: skip
RULES: dict[str, Rule] = {
    **dict.fromkeys(_DEFAULT_PATH_FREE, rule_forbidden),
    "adjtimex": rule_adjust,
    "clock_adjtime": rule_adjust,
    "mq_open": rule_queue,
    "ioctl": rule_ioctl,
    "kill": rule_kill,
    **dict.fromkeys(("tgkill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"), rule_kill_thread),
    "pidfd_send_signal": rule_pidfd_signal,
    "pidfd_open": rule_pidfd_open,
    "setsid": rule_session,
    "prctl": rule_prctl,
    **dict.fromkeys(_QUESTIONS, rule_question),
    **dict.fromkeys(("setpriority", "sched_setscheduler", "sched_setparam", "prlimit64"), rule_sibling),
}
