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
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from sidecar.errors import SourceError
from sidecar.logs.tail import identity, open_regular

GOING_FOLDER = "going"
"""Folder in the index folder for the second names."""

Stat = tuple[int, int, int, int]
"""Device, inode, size and modification time of a file."""

_LEASE = hasattr(fcntl, "F_SETLEASE")


class InUse(SourceError):
    """Somebody writes to this log, or has changed it."""


def remove_log(file: Path, looks: Stat, index_folder: Path, *, patience: float = 0.0) -> None:
    """Delete a log file that looks as given, and its lock. Raises InUse where somebody has it or has changed it;
    OSError. Then it is there as before.

    `patience`: seconds that a writer gets who has found the name, to open the file.
    """
    with _locked(file.with_name(f"{file.name}.lock")), open_regular(file) as (fd, _), _leased(fd) as is_leased:
        status = os.fstat(fd)
        if (*identity(status), status.st_size, status.st_mtime_ns) != looks:
            raise InUse("it has changed since it was archived")
        kept = _second_name(file, index_folder)
        try:
            named = os.stat(file, follow_symlinks=False)
            if identity(named) != looks[:2]:
                raise InUse("another file has its name")
            file.unlink()
            if patience:
                time.sleep(patience)
            if is_leased and fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
                if kept is None:
                    raise InUse("somebody opened it while it was deleted; what was archived of it is safe")
                os.link(kept, file)  # unless a new file has the name: then that one goes on
                raise InUse("somebody opened it for writing")
        finally:
            if kept is not None:
                kept.unlink(missing_ok=True)


def delete_leftovers(index_folder: Path) -> None:
    """Delete what a run that was killed left behind."""
    with suppress(OSError):
        for left in (index_folder / GOING_FOLDER).iterdir():
            left.unlink(missing_ok=True)
        (index_folder / GOING_FOLDER).rmdir()


def _second_name(file: Path, index_folder: Path) -> Path | None:
    """Another name for a file; None where the file system has no such thing."""
    folder = index_folder / GOING_FOLDER
    name = folder / uuid4().hex
    try:
        folder.mkdir(exist_ok=True)
        os.link(file, name, follow_symlinks=False)
    except OSError:
        return None
    return name


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold a session's lock, where there is one, and delete it at the end, if all went well.

    Deleted while it is held: whoever has it open finds, once it is theirs, that the name is gone, and makes another
    (`writer/lock.py`).
    """
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse("its writer holds it") from None
        if os.fstat(fd).st_nlink == 0:
            raise InUse("its writer has just given it back")
        yield
        lock.unlink(missing_ok=True)
    finally:
        os.close(fd)


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
    try:
        status = os.stat(lock, follow_symlinks=False)
        locks = Path("/proc/locks").read_text()
    except OSError:
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    if not any(device in line.split() and "FLOCK" in line for line in locks.splitlines()):
        return None
    with suppress(OSError):
        return lock.read_text(errors="replace").partition("\n")[0]
    return ""
