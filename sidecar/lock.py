"""One sidecar a root: a kernel lock on `index/sidecar.lock`, released by death, and who holds it written inside."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from .errors import RootLocked
from .small import read_small

NAME = "sidecar.lock"
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

PATIENCE = 0.3
"""Seconds. Who only asks whether the lock is held holds it for a moment."""


class RootLock:
    """Held from `acquire` to `release`. The file is never deleted: a lock on a deleted file guards nothing."""

    def __init__(self, index_folder: Path) -> None:
        self._path = index_folder / NAME
        self._lock = FileLock(self._path)
        self._job = ""
        self._inode = 0

    def acquire(self, job: str) -> None:
        """Take the lock, for what is told in `job`; raises RootLocked, which names the holder."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=PATIENCE, poll_interval=0.02)
        except Timeout:
            pid, what = _read(self._path)
            raise RootLocked(f"{self._path.parent.parent} is held by `sidecar {what}`, process {pid}") from None
        self._job = job
        # Only the holder writes, so that a latecomer never wipes the holder's name.
        # Not through a link, and in place: a lock on a replaced file guards nothing.
        fd = os.open(self._path, os.O_WRONLY | os.O_TRUNC | _FLAGS)
        self._inode = os.fstat(fd).st_ino
        try:
            os.write(fd, orjson.dumps({"pid": os.getpid(), "job": job, "since": time.time()}) + b"\n")
        finally:
            os.close(fd)

    def renew(self) -> None:
        """Take the lock once more where its file was deleted, which leaves it guarding nothing. As `acquire`."""
        held = self._lock.lock_counter and _number(self._path) == self._inode
        if not held:
            self.release()
            self.acquire(self._job)

    def release(self) -> None:
        """Let the next one in."""
        self._lock.release()


def holder(index_folder: Path) -> tuple[int, str] | None:
    """Process id and job of whoever holds the root now; None for nobody. Reads only."""
    path = index_folder / NAME
    try:
        fd = os.open(path, os.O_RDONLY | _FLAGS)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read(path)
    finally:
        os.close(fd)
    return None


def _number(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def _read(path: Path) -> tuple[int, str]:
    try:
        content = orjson.loads(read_small(path))
        return int(content["pid"]), str(content["job"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return 0, "?"
