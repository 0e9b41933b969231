"""One sidecar a root: a kernel lock on `index/sidecar.lock`, released by death, and who holds it written inside."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from .errors import RootLocked

NAME = "sidecar.lock"
PATIENCE = 0.3
"""Seconds. Who only asks whether the lock is held holds it for a moment."""


class RootLock:
    """Held from `acquire` to `release`. The file is never deleted: a lock on a deleted file guards nothing."""

    def __init__(self, index_folder: Path, name: str = NAME) -> None:
        self._path = index_folder / name
        self._lock = FileLock(self._path)

    def acquire(self, job: str) -> None:
        """Take the lock, for what is told in `job`; raises RootLocked, which names the holder."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=PATIENCE, poll_interval=0.02)
        except Timeout:
            pid, what = _read(self._path)
            raise RootLocked(f"{self._path.parent.parent} is held by `sidecar {what}`, process {pid}") from None
        # Only the holder writes, so that a latecomer never wipes the holder's name.
        self._path.write_bytes(orjson.dumps({"pid": os.getpid(), "job": job, "since": time.time()}) + b"\n")

    def release(self) -> None:
        """Let the next one in."""
        self._lock.release()


def holder(index_folder: Path) -> tuple[int, str] | None:
    """Process id and job of whoever holds the root now; None for nobody. Reads only."""
    path = index_folder / NAME
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read(path)
    finally:
        os.close(fd)
    return None


def _read(path: Path) -> tuple[int, str]:
    try:
        content = orjson.loads(path.read_bytes())
        return int(content["pid"]), str(content["job"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, "?"
