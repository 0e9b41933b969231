"""One sidecar per root: a kernel lock on `index/sidecar.lock`, which the kernel releases when the process dies.

The file holds the name of its holder: process id, job, and since when.
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
from sidecar.store.layout import is_own_name

from .heartbeat import HEARTBEAT_FILE
from .index_folder import LOCK_FILE, check_index_folder, claim_index_folder

HOLDER_BYTES = 127
"""Bytes reserved for the holder's name."""
_PERMISSIONS = 0o600
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
ACQUIRE_TIMEOUT = 0.3
"""Seconds to wait: a process that probes the lock holds it for a moment."""
POLL_INTERVAL = 0.02
"""Seconds between two tries within that time."""

_log = get_logger(__name__)


class RootLock:
    """A lock, held from `acquire` to `release`. Its file is never deleted: a lock on a deleted file guards nothing."""

    def __init__(self, index_folder: Path, name: str = LOCK_FILE) -> None:
        self._path = index_folder / name
        self._fd = -1

    def acquire(self, job: str) -> None:
        """Take the lock for a job, whose name others will read.

        Raises RootLocked, which names the holder; ConfigError if the file system has no locks, or the index folder is
        another user's; OSError.
        """
        began = time.monotonic()
        try:
            with GuardedFolder.open_own(self._path.parent, create=True) as index:
                self._fd = _locked(index, self._path.name, began + ACQUIRE_TIMEOUT)
                _name_holder(index, self._path.name, job)
        except BlockingIOError:
            raise RootLocked(f"the index {self._path.parent} is held by {_described(*_read(self._path))}") from None
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
        """Whether the held lock is still the root's: not if the folder has been moved, unmounted or deleted."""
        try:
            return os.path.samestat(os.lstat(self._path), os.fstat(self._fd))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # unknown at the moment

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _described(pid: int, job: str) -> str:
    if not pid:
        return "another process, which has not written its name into the lock"
    elsewhere = "" if Path(f"/proc/{pid}").exists() else ", which does not run here: look into other containers"
    return f"`sidecar {job}`, process {pid}{elsewhere}"


def _locked(index: GuardedFolder, name: str, deadline: float) -> int:
    """A descriptor that holds the lock. Raises BlockingIOError where another process still has it at the deadline."""
    while True:
        fd = _open_private(index, name)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = index.status(name)
            if status is not None and os.path.samestat(status, os.fstat(fd)):
                if status.st_nlink == 1:
                    return fd
                index.delete(name)  # nobody holds it, and the holder's name must not be written under another one
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
    """The lock file, which only its owner can open: whoever can open a file, even for reading only, can lock it.

    What is none of ours is deleted first: no sidecar ever holds a lock on it.
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
    return index.open_file(name)  # another process has made it at the same moment


def _name_holder(index: GuardedFolder, name: str, job: str) -> None:
    """Write down who holds the lock.

    Only the holder writes, so that a latecomer never erases the holder's name, and in place: a lock on a replaced file
    guards nothing. Overwriting the old name needs no space on a full disk; a lock whose holder could not be named is
    held all the same. Raises OSError only where the file system is read-only, and no job could write anything.
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
    """Process id and job of the process that holds the root now, or None. Reads only.

    Users who may only read the index cannot open the lock. For them the kernel's list of locks says whether it is held,
    and the job is `run` if a running sidecar has left its status file.
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
        return _read(path)
    finally:
        os.close(fd)
    return None


def pid_of_lock(path: Path) -> int | None:
    """The process that holds a `flock` on a file, as the kernel lists it; None if nobody does, or it is not listed."""
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
    """Hold the root, or another of its locks, for a job. Raises as `RootLock.acquire`; ConfigError without a root, and
    where the index folder is somebody else's."""
    settings.check_root()
    check_index_folder(settings)
    permissions = index_permissions(settings)
    with restricted_umask(permissions):
        lock = RootLock(settings.index_folder, name)
        lock.acquire(job)
        try:
            restrict(settings.index_folder, permissions, is_own_name)
            # The index folder may be new: without its own name being durable, nothing synced in it is.
            with suppress(OSError):  # a scan will report what is wrong with the root
                fs.sync_folder(settings.index_folder.parent)
            claim_index_folder(settings)
            yield lock
        finally:
            lock.release()


def index_permissions(settings: Settings) -> int:
    """The permissions of the index, which says who talked to whom: whoever may not read the logs may not read it."""
    folders = {settings.root}
    for prefix in settings.glob_prefixes:
        folder = settings.root / prefix
        while folder.is_relative_to(settings.root):
            folders.add(folder)
            folder = folder.parent
    return permissions_of(folders)
