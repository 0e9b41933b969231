"""One sidecar per root: a kernel lock on `index/sidecar.lock`, which the kernel releases when the process dies.

The file says who holds the lock: process id, job, and since when.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson

from sidecar import fs
from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import ConfigError, ForeignFile, RootLocked
from sidecar.guarded import GuardedFolder
from sidecar.permissions import permissions_of, restrict, restrict_file, restricted_umask
from sidecar.store.holders import named
from sidecar.store.layout import is_own_name

from .heartbeat import HEARTBEAT_FILE
from .index_folder import LOCK_FILE, check_index_folder, claim_index_folder

HOLDER_BYTES = 127
"""The number of bytes reserved for who holds the lock."""
_PERMISSIONS = 0o600
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
ACQUIRE_TIMEOUT = 0.3
"""Seconds to wait for the lock, because a process that only tests it holds it for a moment."""
POLL_INTERVAL = 0.02
"""Seconds between two tries within that time."""

_log = get_logger(__name__)


class RootLock:
    """A lock, held from `acquire` to `release`. Its file is never deleted, or it would protect nothing."""

    def __init__(self, index_folder: Path, name: str = LOCK_FILE) -> None:
        self._path = index_folder / name
        self._fd = -1

    def acquire(self, job: str) -> None:
        """Take the lock for a job, whose name is shown to others.

        Raises RootLocked, which names the holder; ConfigError if the file system has no locks or the index folder
        belongs to another user; and OSError.
        """
        began = time.monotonic()
        try:
            with GuardedFolder.open_own(self._path.parent, create=True) as index:
                self._fd = _locked(index, self._path.name, began + ACQUIRE_TIMEOUT)
                _name_holder(index, self._path.name, job)
        except BlockingIOError:
            raise RootLocked(f"the index {self._path.parent} is held by {_described(self._path)}") from None
        except OSError as error:
            self.release()
            if error.errno not in _NO_LOCKS:
                raise
            raise ConfigError(
                f"{self._path}: the file system has no locks ({error.strerror})",
                hint="put the index on a local disk: --index DIR, or `index` in config.yaml",
            ) from error
        waited = time.monotonic() - began
        _log.log(logging.INFO if waited >= 0.02 else logging.DEBUG, "locked %s after %.2f s", self._path, waited)

    def stands(self) -> bool:
        """Whether this is still the root's lock, which it is not if the folder was moved, unmounted or deleted."""
        try:
            return os.path.samestat(os.lstat(self._path), os.fstat(self._fd))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            # Unknown at the moment.
            return True

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _described(path: Path) -> str:
    """Who holds a lock, in words. Whom the file names is believed as long as the kernel names nobody else."""
    pid, job = _read(path)
    actual = pid_of_lock(path)
    if actual is not None and actual != pid:
        return named(actual) + (f"; the lock names `sidecar {job}`, process {pid}" if pid else "")
    if not pid:
        return "another process, which has not written its name into the lock"
    elsewhere = "" if Path(f"/proc/{pid}").exists() else ", which does not run here: look in other containers"
    return f"`sidecar {job}`, process {pid}{elsewhere}"


def _locked(index: GuardedFolder, name: str, deadline: float) -> int:
    """A descriptor that holds the lock. Raises BlockingIOError if another process still holds it at the deadline, which
    is a time of the monotonic clock."""
    while True:
        fd = _open_private(index, name)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = index.status(name)
            if status is not None and os.path.samestat(status, os.fstat(fd)):
                if status.st_nlink == 1:
                    return fd
                # Nobody holds this file, and nothing may be written to it, because it has another name as well.
                index.delete(name)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                raise
            time.sleep(POLL_INTERVAL)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _open_private(index: GuardedFolder, name: str) -> int:
    """A descriptor of the lock file, which only its owner can open, because opening a file, even just for reading, is
    all that is needed to lock it.

    Anything at its name that is not our file is deleted first: no sidecar ever holds a lock on that.
    """
    try:
        restrict_file(index, name, _PERMISSIONS)
        return index.open_file(name)
    except FileNotFoundError:
        pass
    except ForeignFile:
        index.delete(name)
    with suppress(FileExistsError):
        return index.create(name, _PERMISSIONS)
    # Another process has created it at the same moment.
    return index.open_file(name)


def _name_holder(index: GuardedFolder, name: str, job: str) -> None:
    """Write to the lock file who holds the lock.

    Only the holder writes, so that a process that comes later never erases it, and in place, because a lock on a file
    that was replaced protects nothing. Overwriting needs no space on a full disk, and a lock is held even if it could
    not be written by whom. Raises OSError only if the file system is read-only, where no job could do anything.
    """
    holder = orjson.dumps({"pid": os.getpid(), "job": job, "since": time.time()})
    try:
        with open(index.open_file(name, os.O_RDWR), "r+b", buffering=0) as file:
            file.write(holder.ljust(HOLDER_BYTES) + b"\n")
            file.truncate()
    except OSError as error:
        if error.errno == errno.EROFS:
            raise


def lock_holder(index_folder: Path) -> tuple[int, str] | None:
    """The process id and the job of the process that holds the root now; None if there is none. Only reads.

    Users who may only read the index cannot open the lock. For them the kernel's list of locks tells whether it is
    held, and the job is `run` if there is the status file of a running sidecar, else `?`.
    """
    path = index_folder / LOCK_FILE
    try:
        with GuardedFolder.open_to_read(index_folder) as index:
            fd = index.open_file(LOCK_FILE)
    except PermissionError:
        pid = pid_of_lock(path)
        return None if pid is None else (pid, "run" if (index_folder / HEARTBEAT_FILE).exists() else "?")
    except (OSError, ForeignFile):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        pid, job = _read(path)
        return pid_of_lock(path) or pid, job
    finally:
        os.close(fd)
    return None


def pid_of_lock(path: Path) -> int | None:
    """The id of the process that holds a `flock` on a file, from the kernel's list; None if no process is listed."""
    return next((lock.pid for lock in fs.kernel_locks(path) if lock.kind == "FLOCK"), None)


def _read(path: Path) -> tuple[int, str]:
    try:
        with GuardedFolder.open_to_read(path.parent) as index:
            content = orjson.loads(index.read(path.name))
        return int(content["pid"]), str(content["job"])
    except (OSError, ForeignFile, ValueError, KeyError, TypeError, OverflowError):
        return 0, "?"


@contextmanager
def root_locked(settings: Settings, job: str, name: str = LOCK_FILE) -> Iterator[RootLock]:
    """Hold the root, or with `name` another of its locks, for a job during a `with` statement.

    Raises the errors of `RootLock.acquire`, RootMissing or ConfigError if there is no root, and ConfigError if the
    index folder holds something else.
    """
    settings.check_root()
    check_index_folder(settings)
    permissions = index_permissions(settings)
    with restricted_umask(permissions):
        lock = RootLock(settings.index_folder, name)
        lock.acquire(job)
        try:
            restrict(settings.index_folder, permissions, is_own_name)
            # The index folder may be new. As long as its own name is not durable, nothing that is synced in it is. If
            # this fails, a scan will report what is wrong with the root.
            with suppress(OSError):
                fs.sync_folder(settings.index_folder.parent)
            claim_index_folder(settings)
            yield lock
        finally:
            lock.release()


def index_permissions(settings: Settings) -> int:
    """The permissions of the index. It says who talked to whom, so only those who may read the logs may read it."""
    folders = {settings.root}
    for prefix in settings.glob_prefixes:
        folder = settings.root / prefix
        while folder.is_relative_to(settings.root):
            folders.add(folder)
            folder = folder.parent
    return permissions_of(folders)
