"""Delete a log file without losing a byte that somebody writes to it at the same moment.

A writer that uses `sidecar.writer` holds the session's lock, so the lock is taken here as well. Only the kernel knows
of other writers: it grants a read lease on a file only while nobody has it open for writing, and blocks a process that
opens it for writing until the lease is returned. That leaves a writer that has looked up the name but has not opened
the file yet. So the log's name is removed while a second link, in the index folder, keeps the file, and the name is
restored if a writer is waiting for the lease by then. Crash windows:

- After the second link was made: the log is as it was. The next run deletes the link.
- After the log's name was removed: its bytes are durably in the archive, and the catalog says so. The next run deletes
  the link.

There are three limits. If the index folder is on another file system, there can be no second link. If the kernel grants
no lease, as on network file systems, no writer is noticed. And a name cannot be restored if a third process has created
a new file with that name in the meantime. So in the millisecond that this takes, no writer without a lock may open a
session that is completed and has not changed for the required age.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from sidecar.errors import SidecarError, SourceError
from sidecar.fs import FileStat, kernel_locks, resolve_under
from sidecar.guarded import GuardedFolder, closing_fd, folder_inside
from sidecar.logs.tail import open_regular

GOING_FOLDER = "going"
"""The folder in the index folder for the second links."""

MAX_OWNER_BYTES = 256
"""How many bytes of a lock file are read to name its owner. What it contains is up to the writer."""

_LEASE = hasattr(fcntl, "F_SETLEASE")


class InUse(SourceError):
    """A log cannot be deleted, because somebody is writing to it or has changed it. The message is the reason."""


def remove_log(root: Path, path: str, expected: FileStat, index_folder: Path, *, grace: float = 0.0) -> Path:
    """Delete a log file and its lock, if its status is still `expected`. Returns the folder that it was in.

    `grace` is the time, in seconds, that a writer has to open the file after it has looked up the name. The folder is
    opened once and everything is done relative to its descriptor, so that a link put in its place leads nowhere.

    Raises InUse if somebody has the file open for writing or has changed it, UnsafePath, and OSError. The file is still
    there then.
    """
    file = resolve_under(root, path)
    with (
        folder_inside(root, file.parent) as folder,
        _locked(folder, f"{file.name}.lock"),
        _opened(folder, file.name) as fd,
        _leased(fd) as is_leased,
    ):
        if FileStat.of(os.fstat(fd)) != expected:
            raise InUse("it has changed since it was archived")
        with _second_link(folder, file.name, index_folder) as link:
            named = os.stat(file.name, dir_fd=folder, follow_symlinks=False)
            if FileStat.of(named).identity != expected.identity:
                raise InUse("another file has its name")
            os.unlink(file.name, dir_fd=folder)
            if grace:
                time.sleep(grace)
            if is_leased and fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
                if link is None:
                    raise InUse("somebody opened it for writing while it was deleted; what was archived is safe")
                link.restore(folder, file.name)
                raise InUse("somebody opened it for writing")
    return file.parent


def delete_leftovers(index_folder: Path) -> None:
    """Delete the second links that a killed run has left."""
    with suppress(OSError, SidecarError), GuardedFolder.open_own(index_folder) as index:
        index.delete_all(GOING_FOLDER)


class _SecondLink(NamedTuple):
    going: GuardedFolder
    name: str

    def restore(self, folder: int, name: str) -> None:
        """Give the file its own name again. Raises OSError; FileExistsError if a new file has that name."""
        os.link(self.name, name, src_dir_fd=self.going.fd, dst_dir_fd=folder, follow_symlinks=False)


@contextmanager
def _second_link(folder: int, name: str, index_folder: Path) -> Iterator[_SecondLink | None]:
    """Another hard link to a file, during a `with` statement; None if it cannot be made."""
    with ExitStack() as stack:
        link = None
        with suppress(OSError, SidecarError):
            index = stack.enter_context(GuardedFolder.open_own(index_folder))
            going = stack.enter_context(index.folder(GOING_FOLDER, create=True))
            second = uuid4().hex
            going.link_here(name, second, folder)
            stack.callback(going.delete, second)
            link = _SecondLink(going, second)
        yield link


@contextmanager
def _opened(folder: int, name: str) -> Iterator[int]:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with closing_fd(fd):
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InUse("it is no longer a regular file")
        yield fd


@contextmanager
def _locked(folder: int, lock: str) -> Iterator[None]:
    """Hold a session's lock, if it has one. At the end of the block the lock file is deleted, unless the block raised.

    It is deleted while the lock is held. A writer that has it open then gets the lock, finds that its name is gone, and
    makes a new one (`writer/lock.py`).
    """
    try:
        status = os.stat(lock, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        yield
        return
    if not stat.S_ISREG(status.st_mode):
        raise InUse(f"{lock} is not a lock file")
    with closing_fd(os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse("its writer holds it") from None
        if os.fstat(fd).st_nlink == 0:
            raise InUse("its writer has just released it")
        yield
        with suppress(FileNotFoundError):
            os.unlink(lock, dir_fd=folder)


@contextmanager
def _leased(fd: int) -> Iterator[bool]:
    """Hold a read lease: a process that opens the file for writing waits in the kernel until the end of the block.
    Yields whether the file system grants leases. Raises InUse if somebody has the file open for writing."""
    leased = False
    if _LEASE:
        try:
            # SIGURG is ignored by default; SIGIO would end the process.
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            leased = True
        except BlockingIOError:
            raise InUse("somebody has it open for writing") from None
        except PermissionError:
            raise InUse("it belongs to another user, and only that user can see whether it is being written") from None
        except OSError:
            # Not every file system grants leases. A change still shows in the file's status.
            pass
    try:
        yield leased
    finally:
        if leased:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def why_in_use(file: Path) -> str | None:
    """Why a log may be in use: somebody has it open for writing, or that cannot be found out. None if it is not."""
    try:
        with open_regular(file) as (fd, _), _leased(fd):
            return None
    except InUse as error:
        return str(error)
    except (OSError, SourceError):
        return None


def writer_of(lock: Path) -> str | None:
    """The first line of a session's lock file, which names its holder; "" if that cannot be read, None if nobody holds
    the lock. The lock itself is not touched: only the kernel's list of locks is read."""
    if not any(one.kind == "FLOCK" for one in kernel_locks(lock)):
        return None
    with suppress(OSError, SourceError), open_regular(lock) as (fd, _):
        first = os.read(fd, MAX_OWNER_BYTES).partition(b"\n")[0].decode(errors="replace")
        return "".join(letter if letter.isprintable() else "?" for letter in first)
    return ""
