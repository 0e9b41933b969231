"""One sidecar a root: a kernel lock on `index/sidecar.lock`, released by death, and who holds it written inside."""

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
"""Bytes in which a holder's name is written."""
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
ACQUIRE_TIMEOUT = 0.3
"""Seconds. Who only asks whether the lock is held holds it for a moment."""


_log = get_logger(__name__)


class RootLock:
    """Held from `acquire` to `release`. The file is never deleted: a lock on a deleted file guards nothing."""

    def __init__(self, index_folder: Path, name: str = LOCK_FILE) -> None:
        self._path = index_folder / name
        self._lock = FileLock(self._path)
        self._identity = (0, 0)

    def acquire(self, job: str) -> None:
        """Take the lock, for what is told in `job`; raises RootLocked, which names the holder."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        try:
            self._lock.acquire(timeout=ACQUIRE_TIMEOUT, poll_interval=0.02)
        except Timeout:
            pid, what = _read(self._path)
            raise RootLocked(f"{self._path.parent.parent} is held by `sidecar {what}`, process {pid}") from None
        waited = time.monotonic() - began
        _log.log(logging.INFO if waited >= 0.02 else logging.DEBUG, "locked %s after %.2f s", self._path, waited)
        # Only the holder writes, so that a latecomer never wipes the holder's name. Not through a
        # link, and in place: a lock on a replaced file guards nothing. Over the old name, which has room
        # on a disk that is full; a lock that could not be named is held all the same.
        name = orjson.dumps({"pid": os.getpid(), "job": job, "since": time.time()})
        with suppress(OSError), open(os.open(self._path, os.O_RDWR | _FLAGS), "r+b", buffering=0) as file:
            self._identity = _identity(os.fstat(file.fileno()))
            file.write(name.ljust(HOLDER_BYTES) + b"\n")
            file.truncate()

    def stands(self) -> bool:
        """Whether the lock that is held is that of the root: not where the folder was moved, unmounted or deleted."""
        try:
            return _identity(os.stat(self._path)) == self._identity
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # it cannot be told now

    def release(self) -> None:
        """Let the next one in."""
        self._lock.release()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def lock_holder(index_folder: Path) -> tuple[int, str] | None:
    """Process id and job of whoever holds the root now; None for nobody. Reads only."""
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
    """Hold the root for a job."""
    if not settings.root.is_dir():
        raise ConfigError(
            f"the root {settings.root} is no folder", hint="start the daemon that logs there first, or give --root"
        )
    lock = RootLock(settings.index_folder)
    lock.acquire(job)
    try:
        # The index folder may be new, and all that will be synced in it hangs by its name.
        with suppress(OSError):  # a scan will tell what is wrong with the root
            fs.sync_folder(settings.root)
        yield lock
    finally:
        lock.release()
