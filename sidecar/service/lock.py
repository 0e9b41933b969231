"""One sidecar per root: a kernel lock on `index/sidecar.lock`, which the kernel releases when the process dies.

The file holds the name of its holder: process id, job, and since when.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from sidecar import fs
from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import ConfigError, RootLocked
from sidecar.fs import read_small

LOCK_FILE = "sidecar.lock"
HOLDER_BYTES = 127
"""Bytes reserved for the holder's name."""
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
ACQUIRE_TIMEOUT = 0.3
"""Seconds to wait: a process that probes the lock holds it for a moment."""


_log = get_logger(__name__)


class RootLock:
    """A lock, held from `acquire` to `release`. Its file is never deleted: a lock on a deleted file guards nothing."""

    def __init__(self, index_folder: Path, name: str = LOCK_FILE) -> None:
        self._path = index_folder / name
        self._lock = FileLock(self._path)
        self._identity = (0, 0)

    def acquire(self, job: str) -> None:
        """Take the lock for a job, whose name others will read. Raises RootLocked, which names the holder."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        try:
            self._lock.acquire(timeout=ACQUIRE_TIMEOUT, poll_interval=0.02)
        except Timeout:
            pid, what = _read(self._path)
            raise RootLocked(f"{self._path.parent.parent} is held by `sidecar {what}`, process {pid}") from None
        waited = time.monotonic() - began
        _log.log(logging.INFO if waited >= 0.02 else logging.DEBUG, "locked %s after %.2f s", self._path, waited)
        # Only the holder writes, so that a latecomer never erases the holder's name. It does not write through a link,
        # and it writes in place: a lock on a replaced file guards nothing. Overwriting the old name needs no space on a
        # full disk; a lock whose holder could not be named is held all the same.
        name = orjson.dumps({"pid": os.getpid(), "job": job, "since": time.time()})
        with suppress(OSError), open(os.open(self._path, os.O_RDWR | _FLAGS), "r+b", buffering=0) as file:
            self._identity = _identity(os.fstat(file.fileno()))
            file.write(name.ljust(HOLDER_BYTES) + b"\n")
            file.truncate()

    def stands(self) -> bool:
        """Whether the held lock is still the root's: not if the folder has been moved, unmounted or deleted."""
        try:
            return _identity(os.stat(self._path)) == self._identity
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # unknown at the moment

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def lock_holder(index_folder: Path) -> tuple[int, str] | None:
    """Process id and job of the process that holds the root now, or None. Reads only."""
    path = index_folder / LOCK_FILE
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


def _read(path: Path) -> tuple[int, str]:
    try:
        content = orjson.loads(read_small(path))
        return int(content["pid"]), str(content["job"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return 0, "?"


@contextmanager
def root_locked(settings: Settings, job: str) -> Iterator[RootLock]:
    """Hold the root for a job. Raises RootLocked, and ConfigError if there is no root."""
    if not settings.root.is_dir():
        raise ConfigError(
            f"the root {settings.root} is not a folder", hint="start the daemon that logs there first, or give --root"
        )
    lock = RootLock(settings.index_folder)
    lock.acquire(job)
    try:
        # The index folder may be new: without its own name being durable, nothing synced in it is.
        with suppress(OSError):  # a scan will report what is wrong with the root
            fs.sync_folder(settings.root)
        yield lock
    finally:
        lock.release()
