"""A log file deleted so that no byte is lost that somebody writes at this very moment.

Whoever writes through `sidecar.writer` holds the session's lock, which is taken here too. Of any other writer only the
kernel knows: a read lease is given where nobody has the file open for writing, and whoever opens it then waits until
the lease is given back. What remains is a writer who has found the name and not opened the file yet. So the name goes
first, while another one, in the index folder, keeps the file; a writer who waits by then shows in the lease, and the
name comes back. Crash windows:

- after the second name was made: the log is as it was; the next run deletes that name.
- after the log's name is gone: what it held is in the archive, durably and in the catalog; the next run deletes the
  second name.

Where the index folder lies on another file system there is no second name, and where the kernel gives no leases (on a
network file system) nobody is seen: there a writer without a lock must not open, in that millisecond, a session that is
completed and has been unchanged for the age.
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
"""Folder in the index folder for the second names."""

Stat = tuple[int, int, int, int]
"""Device, inode, size and modification time of a file."""

MAX_OWNER_BYTES = 256
"""Bytes of a lock file that are read to name its owner: a log writer decides what the file holds."""

_LEASE = hasattr(fcntl, "F_SETLEASE")


class InUse(SourceError):
    """Somebody writes to this log, or has changed it."""


def remove_log(root: Path, path: str, looks: Stat, index_folder: Path, *, patience: float = 0.0) -> Path:
    """Delete a log file that looks as given, and its lock; returns the folder that it lay in.

    The folder is opened once, and everything is done by its descriptor: a link that takes its place meanwhile leads
    nothing elsewhere. Raises InUse where somebody has the file or has changed it, UnsafePath, and OSError. Then it is
    there as before.

    `patience`: seconds that a writer gets who has found the name, to open the file.
    """
    file = resolve_under(root, path)
    with (
        folder_inside(root, file.parent) as folder,
        _locked(folder, f"{file.name}.lock"),
        _opened(folder, file.name) as fd,
        _leased(fd) as is_leased,
    ):
        status = os.fstat(fd)
        if FileStat.of(status) != looks:
            raise InUse("it has changed since it was archived")
        with _second_name(folder, file.name, index_folder) as kept:
            named = os.stat(file.name, dir_fd=folder, follow_symlinks=False)
            if FileStat.of(named).identity != looks[:2]:
                raise InUse("another file has its name")
            os.unlink(file.name, dir_fd=folder)
            if patience:
                time.sleep(patience)
            if is_leased and fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
                if kept is None:
                    raise InUse("somebody opened it while it was deleted; what was archived of it is safe")
                kept.put_back(folder, file.name)  # unless a new file has the name: then that one goes on
                raise InUse("somebody opened it for writing")
    return file.parent


def delete_leftovers(index_folder: Path) -> None:
    """Delete what a run that was killed left behind."""
    with suppress(OSError, SidecarError), GuardedFolder.open_own(index_folder) as index:
        index.delete_all(GOING_FOLDER)


class _SecondName(NamedTuple):
    going: GuardedFolder
    name: str

    def put_back(self, folder: int, name: str) -> None:
        """Give the file its own name again. Raises OSError, FileExistsError among them."""
        os.link(self.name, name, src_dir_fd=self.going.fd, dst_dir_fd=folder, follow_symlinks=False)


@contextmanager
def _second_name(folder: int, name: str, index_folder: Path) -> Iterator[_SecondName | None]:
    """Another name for a file, as long as the `with` statement lasts; None where the file system has no such thing."""
    with ExitStack() as stack:
        kept = None
        with suppress(OSError, SidecarError):
            index = stack.enter_context(GuardedFolder.open_own(index_folder))
            going = stack.enter_context(index.folder(GOING_FOLDER, create=True))
            second = uuid4().hex
            going.link_here(name, second, folder)
            stack.callback(going.delete, second)
            kept = _SecondName(going, second)
        yield kept


@contextmanager
def _opened(folder: int, name: str) -> Iterator[int]:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with closing_fd(fd):
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InUse("it is not a regular file any more")
        yield fd


@contextmanager
def _locked(folder: int, lock: str) -> Iterator[None]:
    """Hold a session's lock, where there is one, and delete it at the end, if all went well.

    Deleted while it is held: whoever has it open finds, once it is theirs, that the name is gone, and makes another
    (`writer/lock.py`).
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
            raise InUse("its writer has just given it back")
        yield
        with suppress(FileNotFoundError):
            os.unlink(lock, dir_fd=folder)


@contextmanager
def _leased(fd: int) -> Iterator[bool]:
    """Have the kernel make every writer who opens the file wait, if it can. Raises InUse where one has it open."""
    leased = False
    if _LEASE:
        try:
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # which nobody minds; the one by default ends the process
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            leased = True
        except BlockingIOError:
            raise InUse("somebody has it open for writing") from None
        except PermissionError:
            raise InUse("it is another user's, and only for them it can be told who writes to it") from None
        except OSError:
            pass  # not every file system gives leases; the looks are compared all the same
    try:
        yield leased
    finally:
        if leased:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def why_in_use(file: Path) -> str | None:
    """Why a file may be written to now: somebody has it open for that, or it cannot be told; None where nobody has."""
    try:
        with open_regular(file) as (fd, _), _leased(fd):
            return None
    except InUse as error:
        return str(error)
    except (OSError, SourceError):
        return None


def writer_of(lock: Path) -> str | None:
    """Who holds a session's lock, as far as it can be told without touching it; None for nobody, "" for somebody."""
    if not any(one.kind == "FLOCK" for one in kernel_locks(lock)):
        return None
    with suppress(OSError, SourceError), open_regular(lock) as (fd, _):
        first = os.read(fd, MAX_OWNER_BYTES).partition(b"\n")[0].decode(errors="replace")
        return "".join(letter if letter.isprintable() else "?" for letter in first)
    return ""
