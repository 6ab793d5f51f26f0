"""Leases: several processes, on several machines, share out units of work over a common folder, without a server.

A lease is a file that only one process can create (`O_EXCL`). Its holder rewrites it while it works (heartbeat); others
leave the unit alone. A holder that dies leaves its lease behind, which others take over when it is stale:

1. the holder ran on this machine (same boot, same process namespace) and its process is gone: at once;
2. otherwise, when the content has not changed for `expiry` seconds *of the observer's own monotonic clock*. Clocks of
   different machines are never compared, so a wrong clock can neither steal nor block a unit.

Taking over is a rename, which one of several observers wins. In the worst case (a holder that was stopped for longer
than the expiry and wakes up) two processes do the same unit; both commit the same bytes.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

# What observers in this process have seen: they judge by how long it stays the same.
Seen = dict[Path, tuple[bytes, float]]


class Lease:
    """The lease of one unit.

    Args:
        expiry: seconds without a heartbeat after which a holder elsewhere counts as dead.
    """

    def __init__(self, path: Path, *, expiry: float) -> None:
        self.path, self.expiry = path, expiry
        self._beats = 0
        self._last = 0.0
        self._content = b""
        self._before = b""  # an interruption may fall between a new content and its place

    def acquire(self, seen: Seen) -> bool:
        """Whether this process now holds the lease.

        Args:
            seen: memory of the observer, kept between calls.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._create():
            return True
        content = self._read()
        if content is None:
            return self._create()
        if not self._stale(content, seen):
            return False
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return False
        taken = aside.read_bytes()
        if taken != content:  # somebody else was quicker and holds it: give it back
            with suppress(FileExistsError):
                os.link(aside, self.path)
            aside.unlink()
            return False
        aside.unlink()
        return self._create()

    def beat(self, progress: dict[str, Any] | None = None, *, every: float = 1.0) -> None:
        """Says that the holder lives, at most once in `every` seconds; `progress` is for those who watch."""
        now = time.monotonic()
        if now - self._last < every:
            return
        self._last = now
        self._beats += 1
        content = _content(self._beats, progress)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with suppress(OSError):  # a full disk must not end the work: the lease is only advice
                temporary.write_bytes(content)
                self._content, self._before = content, self._content
                temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def held(self) -> bool:
        """Whether nobody took the lease over in the meantime."""
        return self._read() in (self._content, self._before)

    def release(self) -> None:
        if self.held():
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        self._content = self._before = _content(0, None)
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            os.write(handle, self._content)
        except OSError as error:  # a full disk: name the file, and hold nothing
            self.path.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        finally:
            os.close(handle)
        self._last = time.monotonic()
        return True

    def _read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def _stale(self, content: bytes, seen: Seen) -> bool:
        try:
            holder = json.loads(content)
            here = holder["machine"] == machine()
            if here and not _alive(int(holder["pid"]), holder["started"]):
                return True
        except (ValueError, KeyError, TypeError):
            pass  # being written at this moment, or damaged: only time tells
        now = time.monotonic()
        before, since = seen.get(self.path, (b"", now))
        if before != content:
            seen[self.path] = (content, now)
            return False
        return now - since > self.expiry


def watch(path: Path) -> dict[str, Any]:
    """What the holder of a lease says about its progress; empty if nobody holds it."""
    try:
        return dict(json.loads(path.read_bytes()).get("progress") or {})
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def machine() -> str:
    """Names this boot of this machine and the namespace that process ids belong to; "" where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _content(beats: int, progress: dict[str, Any] | None) -> bytes:
    pid = os.getpid()
    holder = {"machine": machine(), "pid": pid, "started": _started(pid), "beats": beats, "progress": progress}
    return json.dumps(holder).encode()


def _alive(pid: int, started: str) -> bool:
    return _started(pid) == started


def _started(pid: int) -> str:
    """Start time of a process in ticks since boot: tells it from a later one with the same number; "" if none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
