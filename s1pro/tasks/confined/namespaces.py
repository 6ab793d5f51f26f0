"""Walls around a process, by the kernel: what code in it can see, reach and use up.

`enter` (once, before the fork that becomes process 1 of its own world):

1. own user, mount, process, network, IPC and host-name namespaces: no network, no other process, no rights outside
2. a root of its own: an empty memory file system with the given folders in it, read-only; the old root is gone

`give_up_rights` (in every child that runs code):

3. limits of address space, CPU time, file size, open files
4. no capabilities, none by any later exec, and a filter of system calls without new processes, programs, sockets,
   mounts, tracing and the like

Each step raises `OSError` if the kernel does not do it, and then nothing is run: there is no less confined way.
Linux on x86-64 and AArch64. Only the standard library, since this runs inside.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Sequence

_USER, _MOUNT, _PID, _NET, _IPC, _UTS = 0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x08000000, 0x04000000
_MS_BIND, _MS_REC, _MS_PRIVATE, _MS_REMOUNT, _MS_RDONLY = 0x1000, 0x4000, 1 << 18, 0x20, 0x1
_MS_NOSUID, _MS_NODEV = 0x2, 0x4
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_SETATTR = 442
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_CAPABILITY_VERSION_3 = 0x20080522
_INSIDE_ID = 1000
SCRATCH = "/scratch"
_SCRATCH_OPTIONS = "size=16m,nr_inodes=1024,mode=0777"

# What code inside may not ask of the kernel. Numbers by architecture; from 424 on they are the same everywhere.
_FORBIDDEN = {
    "x86_64": (
        0xC000003E,
        {
            "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "ptrace": 101, "mount": 165,
            "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308, "bpf": 321, "keyctl": 250,
            "add_key": 248, "request_key": 249, "perf_event_open": 298, "userfaultfd": 323, "process_vm_readv": 310,
            "process_vm_writev": 311, "socket": 41,
            # memory that no limit counts, and that outlives the program
            "shmget": 29, "shmat": 30, "semget": 64, "msgget": 68, "mq_open": 240, "memfd_create": 319,
            # limits and priorities of others, process 1 among them
            "prlimit64": 302, "setpriority": 141, "ioprio_set": 251, "sched_setaffinity": 203,
            "sched_setscheduler": 144, "sched_setparam": 142, "sched_setattr": 314,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "clone": 220, "execve": 221, "execveat": 281, "ptrace": 117, "mount": 40, "umount2": 39, "pivot_root": 41,
            "chroot": 51, "unshare": 97, "setns": 268, "bpf": 280, "keyctl": 219, "add_key": 217, "request_key": 218,
            "perf_event_open": 241, "userfaultfd": 282, "process_vm_readv": 270, "process_vm_writev": 271,
            "socket": 198,
            "shmget": 194, "shmat": 196, "semget": 190, "msgget": 186, "mq_open": 180, "memfd_create": 279,
            "prlimit64": 261, "setpriority": 140, "ioprio_set": 30, "sched_setaffinity": 122, "sched_setscheduler": 119,
            "sched_setparam": 118, "sched_setattr": 274,
        },
    ),
}  # fmt: skip
_FORBIDDEN_EVERYWHERE = {
    "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430, "clone3": 435, "mount_setattr": 442,
    "memfd_secret": 447,
}  # fmt: skip
_X32_BIT = 0x40000000


def enter(root: str, folders: Sequence[str]) -> None:
    """Steps 1 and 2; the next fork is process 1.

    Args:
        root: an empty folder to build the new root in.
        folders: files and folders that stay visible, at their own paths.
    """
    user, group = os.getuid(), os.getgid()
    libc = _libc()
    _checked(libc.unshare(_USER | _MOUNT | _PID | _NET | _IPC | _UTS), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_INSIDE_ID} {user} 1"),
        ("gid_map", f"{_INSIDE_ID} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")
    for folder in folders:
        _show(folder, root)
    for name in (SCRATCH, "/dev"):
        os.makedirs(root + name, exist_ok=True)
    _show("/dev/null", root, device=True)
    os.chdir(root)
    _checked(libc.pivot_root(b".", b"."), "pivot_root")
    _checked(libc.umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")
    _mount(None, "/", None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


def fresh_scratch() -> None:
    """An empty folder to write to, which is the working folder."""
    _mount("tmpfs", SCRATCH, "tmpfs", _MS_NOSUID | _MS_NODEV, _SCRATCH_OPTIONS)
    os.chdir(SCRATCH)


def drop_scratch() -> None:
    """Whatever was written there is gone."""
    os.chdir("/")
    _checked(_libc().umount2(os.fsencode(SCRATCH), _MNT_DETACH), "umount2")


def give_up_rights(*, memory_bytes: int, cpu_seconds: int, file_bytes: int = 16 << 20) -> None:
    """Steps 3 and 4, of this process, for good."""
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory_bytes),
    ):
        hard = resource.getrlimit(limit)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (least, least))
    libc = _libc()
    header, data = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    _checked(libc.capset(header, data), "capset")
    _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _filter_calls(libc)


def _filter_calls(libc: ctypes.CDLL) -> None:
    """A BPF program over the number of a system call: forbidden ones give EPERM."""
    machine = platform.machine()
    if machine not in _FORBIDDEN:
        raise OSError(errno.ENOSYS, f"no filter of system calls for {machine}")
    architecture, own = _FORBIDDEN[machine]
    numbers = [*own.values(), *_FORBIDDEN_EVERYWHERE.values()]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_RET|K
    kill, refuse, allow = 0x80000000, 0x00050000 | errno.EPERM, 0x7FFF0000
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
    checks = [(at_least, _X32_BIT), *((equal, number) for number in numbers)]
    steps += [(code, len(checks) - i, 0, value) for i, (code, value) in enumerate(checks)]
    steps += [(give, 0, 0, allow), (give, 0, 0, refuse)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    pointer = struct.pack("@HP", len(steps), ctypes.addressof(program))
    _checked(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, pointer, 0, 0), "seccomp")


def _show(path: str, root: str, *, device: bool = False) -> None:
    """Makes a file or folder of the old root visible in the new one, read-only; links stay links."""
    target = root + path
    if os.path.lexists(target):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        with open(target, "w", encoding="ascii"):
            pass
    _mount(path, target, None, _MS_BIND | _MS_REC)
    if not device:
        attributes = struct.pack("=QQQQ", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, 0, 0, 0)  # the same bits as MOUNT_ATTR_*
        outcome = _libc().syscall(
            _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE, attributes, len(attributes)
        )
        _checked(outcome, f"mount_setattr {path}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    outcome = _libc().mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _checked(outcome, f"mount {target}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(outcome: int, what: str) -> None:
    if outcome != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
