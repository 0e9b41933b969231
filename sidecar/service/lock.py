"""One sidecar per root: a kernel lock on `index/sidecar.lock`, which the kernel releases when the process dies.

The file holds the name of its holder: process id, job, and since when.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
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
from sidecar.guarded import GuardedFolder, permissions_of, restrict, restricted_umask
from sidecar.store.layout import CATALOG_NAME

from .heartbeat import HEARTBEAT_FILE

LOCK_FILE = "sidecar.lock"
HOLDER_BYTES = 127
"""Bytes reserved for the holder's name."""
_PERMISSIONS = 0o600
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
ACQUIRE_TIMEOUT = 0.3
"""Seconds to wait: a process that probes the lock holds it for a moment."""


_log = get_logger(__name__)


class RootLock:
    """A lock, held from `acquire` to `release`. Its file is never deleted: a lock on a deleted file guards nothing."""

    def __init__(self, index_folder: Path, name: str = LOCK_FILE) -> None:
        self._path = index_folder / name
        # Only its owner may open the file: whoever can open a file, even for reading only, can lock it.
        self._lock = FileLock(self._path, mode=_PERMISSIONS, fallback_to_soft=False)
        self._identity = (0, 0)

    def acquire(self, job: str) -> None:
        """Take the lock for a job, whose name others will read.

        Raises RootLocked, which names the holder, and ConfigError if the file system has no locks.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._make_private()
        began = time.monotonic()
        try:
            self._lock.acquire(timeout=ACQUIRE_TIMEOUT, poll_interval=0.02)
        except Timeout:
            pid, what = _read(self._path)
            raise RootLocked(f"the index {self._path.parent} is held by `sidecar {what}`, process {pid}") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise ConfigError(
                f"{self._path}: the file system has no locks ({error.strerror})",
                hint="put the index on a local disk: --index DIR, or `index` in config.yaml",
            ) from error
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

    def _make_private(self) -> None:
        """Make sure that the lock is a regular file that only its owner can open. What else has its name is deleted:
        none of ours ever holds a lock on it."""
        with suppress(FileNotFoundError), GuardedFolder.open(self._path.parent) as folder:
            status = folder.status_of(self._path.name)
            if not stat.S_ISREG(status.st_mode):
                folder.delete(self._path.name)
            else:
                folder.restrict_file(self._path.name, _PERMISSIONS)

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
    """Process id and job of the process that holds the root now, or None. Reads only.

    Users who may only read the index cannot open the lock. For them the kernel's list of locks says whether it is held,
    and the job is `run` if a running sidecar has left its status file.
    """
    path = index_folder / LOCK_FILE
    try:
        fd = os.open(path, os.O_RDONLY | _FLAGS)
    except PermissionError:
        pid = pid_of_lock(path)
        return None if pid is None else (pid, "run" if (index_folder / HEARTBEAT_FILE).exists() else "?")
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read(path)
    finally:
        os.close(fd)
    return None


def pid_of_lock(path: Path) -> int | None:
    """The process that holds a `flock` on a file, as the kernel lists it; None where nobody does, or it is not told."""
    try:
        status = os.stat(path, follow_symlinks=False)
        locks = Path("/proc/locks").read_text()
    except OSError:
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in locks.splitlines():
        words = line.split()
        if "FLOCK" in words and device in words:
            return int(words[words.index(device) - 1])
    return None


def _read(path: Path) -> tuple[int, str]:
    try:
        content = orjson.loads(read_small(path))
        return int(content["pid"]), str(content["job"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return 0, "?"


@contextmanager
def root_locked(settings: Settings, job: str, name: str = LOCK_FILE) -> Iterator[RootLock]:
    """Hold the root, or another of its locks, for a job. Raises as `RootLock.acquire`; ConfigError without a root, and
    where the index folder is somebody else's."""
    if not settings.root.is_dir():
        raise ConfigError(
            f"the root {settings.root} is not a folder", hint="start the daemon that logs there first, or give --root"
        )
    _check_index_folder(settings)
    permissions = index_permissions(settings)
    with restricted_umask(permissions):
        lock = RootLock(settings.index_folder, name)
        lock.acquire(job)
        try:
            restrict(settings.index_folder, permissions)
            # The index folder may be new: without its own name being durable, nothing synced in it is.
            with suppress(OSError):  # a scan will report what is wrong with the root
                fs.sync_folder(settings.index_folder.parent)
            yield lock
        finally:
            lock.release()


def _check_index_folder(settings: Settings) -> None:
    """Raise ConfigError where the configuration names a folder that other files lie in: their permissions would be
    restricted, and the folder taken for an index that can be thrown away."""
    if settings.index is None:
        return
    try:
        names = {path.name for path in settings.index.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise ConfigError(f"the index folder {settings.index} is not a folder") from None
    if names - {"lost+found"} and not names & {LOCK_FILE, CATALOG_NAME}:
        raise ConfigError(
            f"{settings.index} holds other files, and no index",
            hint="name an empty folder for the index, or one that is not there yet",
        )


def index_permissions(settings: Settings) -> int:
    """The permissions of the index: it says who talked to whom, which nobody may read who may not read the logs."""
    folders = {settings.root}
    for prefix in settings.glob_prefixes:
        folder = settings.root / prefix
        while folder.is_relative_to(settings.root):
            folders.add(folder)
            folder = folder.parent
    return permissions_of(folders)
