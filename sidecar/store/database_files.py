"""The files of a database, which SQLite opens by path: what is checked before it does, and what protects them after.

SQLite cannot be given a descriptor. It resolves a path itself, follows links, and finds the write-ahead log, the shared
memory and a rollback journal by their names beside the database file. So this holds for every database that is written:

- Its folder belongs to this user or to root, and nobody else can write to it (`GuardedFolder.open_own`, and the umask
  of a process that holds a root). So no file can be replaced between the check here and the opening.
- The folder at the path is the one that was opened and checked.
- The database and each file beside it is a regular file of a trusted owner, without a second name elsewhere, because
  SQLite writes in place.
- No rollback journal names a super-journal, because SQLite would delete the file of that name, wherever it is. The
  sidecar's own journals name none: no transaction of the sidecar writes to two files.
- SQLite creates no database file: a new one is created by descriptor and then opened with `mode=rw`. The copy of a day,
  which `VACUUM INTO` makes, is written to a file that was created that way.

Readers open a database with `mode=ro`. SQLite then rolls nothing back, and writes only to the shared memory.

One risk remains: the owner of the folder above the index folder can replace the index folder at the very moment of the
opening. A sidecar that runs as root therefore has to trust the owner of the root, and should run as that user instead.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote_from_bytes

from sidecar.errors import ForeignFile, IndexDamaged
from sidecar.guarded import GuardedFolder, closing_fd

WAL, SHARED_MEMORY, JOURNAL = "-wal", "-shm", "-journal"
"""What SQLite appends to the name of a database to name the files beside it."""
BESIDE = (WAL, SHARED_MEMORY, JOURNAL)

_HEADER = b"SQLite format 3\0"
_HEADER_LENGTH = 100
_FORMATS = 2
"""The highest version for writing and for reading that SQLite knows: bytes 18 and 19 of a database."""
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""The first bytes of a rollback journal. If it names a super-journal, they are its last bytes too."""


def check_to_write(folder: GuardedFolder, name: str) -> None:
    """Make sure that SQLite can safely open a database by its path to write to it. The database need not exist.

    Raises ForeignFile, which says what is wrong, and OSError.
    """
    if folder.is_replaced():
        raise ForeignFile(f"{folder.path} was replaced while it was in use")
    # None of these files is opened here, because closing it would drop the locks that SQLite holds for this process.
    for one in (name, *(name + suffix for suffix in BESIDE)):
        status = folder.status(one)
        if status is not None:
            folder.check_file(one, status, in_place=True)
            if one.endswith(JOURNAL) and _names_super_journal(folder, one):
                raise ForeignFile(f"{folder.path / one} names another file, which SQLite would delete")


def check_to_read(path: Path) -> None:
    """Raise IndexDamaged if a database that SQLite is to open for reading, or a file beside it, is not a regular file,
    or if the shared memory, the only one that SQLite would write to, has a second name elsewhere."""
    for suffix in ("", *BESIDE):
        try:
            status = os.lstat(f"{path}{suffix}")
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode):
            raise IndexDamaged(f"{path}{suffix} is not a file")
        if suffix == SHARED_MEMORY and status.st_nlink > 1:
            raise IndexDamaged(f"{path}{suffix} has a second name elsewhere")


def looks_whole(folder: GuardedFolder, name: str) -> bool:
    """Whether a file exists, begins with the header of a database, and is at least as long as the header says. Raises
    OSError if it cannot be read.

    Not for a database that this process has open: closing the file here would drop SQLite's locks on it.
    """
    try:
        with closing_fd(folder.open_file(name)) as fd:
            status = os.fstat(fd)
            header = os.pread(fd, _HEADER_LENGTH, 0)
    except (FileNotFoundError, ForeignFile):
        return False
    if not header.startswith(_HEADER) or len(header) < _HEADER_LENGTH:
        return False
    page, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    # If these differ, the last SQLite that wrote the file was so old that it does not keep the page count.
    has_count = header[24:28] == header[92:96]
    return not has_count or status.st_size >= pages * (65536 if page == 1 else page)


def check_format(folder: GuardedFolder, name: str) -> None:
    """Raise IndexDamaged if a database says that SQLite may only read it, and OSError.

    SQLite opens such a file and then refuses every write, as if permission was missing. Only for a file that this
    process does not have open as a database (see `looks_whole`).
    """
    with suppress(FileNotFoundError, ForeignFile), closing_fd(folder.open_file(name)) as fd:
        if any(version > _FORMATS for version in os.pread(fd, 2, 18)):
            raise IndexDamaged(f"{folder.path / name} has a file format that SQLite does not write")


def uri(path: Path, how: str) -> str:
    """The URI of a database for SQLite; `how` is its query part, such as `mode=rw`."""
    return f"file:{quote_from_bytes(os.fsencode(path.absolute()))}?{how}"


def _names_super_journal(folder: GuardedFolder, journal: str) -> bool:
    # A journal may be opened and closed here: SQLite holds no locks on it.
    with closing_fd(folder.open_file(journal)) as fd:
        size = os.fstat(fd).st_size
        return size >= 16 and os.pread(fd, 8, size - 8) == _JOURNAL_MAGIC
