"""The files of a database that SQLite opens by their paths: what protects them, and what is checked before.

SQLite opens nothing by descriptor. It resolves a path itself, follows a link in it, and finds the write-ahead log, its
shared memory and a rollback journal by their names beside the file. So this is what holds for an index that is written:

- Its folder belongs to this user or to root, and nobody else can write in it (`GuardedFolder.open_own`, and the umask
  of a process that holds a root): nothing can be swapped between the check here and the opening.
- The folder at the path is the one that was opened and checked.
- Each of the files is a regular one, of a trusted owner, with no second name elsewhere: SQLite writes in place, also
  over what bears the name of a log.
- No rollback journal names a super-journal. SQLite would delete the file of that name, wherever it lies, and no
  transaction of the sidecar's has one, because none writes to two files.
- SQLite makes no file: a new one is made by descriptor, and opened with `mode=rw`. (The copy of a day, by `VACUUM
  INTO`, is written into a file that is made so.)

Who only reads opens with `mode=ro`. Then SQLite rolls nothing back, and writes to nothing but the shared memory.

What remains: whoever owns the folder that the index folder lies in can put another folder in its place at that very
moment. A sidecar that runs as root trusts the owner of the root so far, and is better run as that user.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import quote_from_bytes

from sidecar.errors import ForeignFile, IndexDamaged
from sidecar.guarded import GuardedFolder, closing_fd

LOG, SHARED_MEMORY, JOURNAL = "-wal", "-shm", "-journal"
"""What SQLite puts behind the name of a database for the files beside it."""
BESIDE = (LOG, SHARED_MEMORY, JOURNAL)

_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""Begins a rollback journal, and stands again at the end of one behind the name of a super-journal."""


def check_to_write(folder: GuardedFolder, name: str) -> None:
    """Make sure that SQLite can be given a database by its path, to be written.

    One that is not there is fine. Raises ForeignFile, which says what is wrong; OSError.
    """
    if folder.is_replaced():
        raise ForeignFile(f"{folder.path} was replaced while it was in use")
    # Looked at without being opened: to close one would take from SQLite the locks that this process has on it.
    for one in (name, *(name + suffix for suffix in BESIDE)):
        status = folder.status(one)
        if status is not None:
            folder.check_file(one, status, in_place=True)
            if one.endswith(JOURNAL) and _names_super_journal(folder, one):
                raise ForeignFile(f"{folder.path / one} names a file to be deleted")


def check_to_read(path: Path) -> None:
    """Raise IndexDamaged where a database that SQLite is to open, to be read, or a file beside it is a link, a pipe, or
    (of what SQLite may write to) has a second name elsewhere."""
    for suffix in ("", *BESIDE):
        try:
            status = os.lstat(f"{path}{suffix}")
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode):
            raise IndexDamaged(f"{path}{suffix} is not a file")
        if suffix == SHARED_MEMORY and status.st_nlink > 1:
            raise IndexDamaged(f"{path}{suffix} has a second name elsewhere")


def uri(path: Path, how: str) -> str:
    """The name of a database for SQLite, with a query such as `mode=rw`."""
    return f"file:{quote_from_bytes(os.fsencode(path.absolute()))}?{how}"


def _names_super_journal(folder: GuardedFolder, journal: str) -> bool:
    with closing_fd(folder.open_file(journal)) as fd:  # SQLite locks no journal
        size = os.fstat(fd).st_size
        return size >= 16 and os.pread(fd, 8, size - 8) == _JOURNAL_MAGIC
