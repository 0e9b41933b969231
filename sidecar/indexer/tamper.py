"""How an index file looks from outside while only the sidecar writes to it: whoever else writes shows in that.

SQLite tells of a damaged page when it meets it, which may be never, and its next WAL checkpoint may write over just
what would have told: a file that was cut is long again, with holes. But nobody else may write to an index file, and the
sidecar knows when it writes itself: to the write-ahead log in its transactions, to the database file in the WAL
checkpoints that it asks for, at opening and at closing. So inode, size and time of change are compared before each of
these, and taken anew after it. Who only reads changes none of them, nor does one who opens the file for writing and
writes nothing: while it is open here SQLite's closing of theirs is never the last, which would move the log.

So it is with a file that was closed: how it was left is compared as long as the sidecar runs, through failures too, and
noted in the catalog when it ends; and how it was found at the start, before it is checked, until it is opened.

What goes unseen is a foreign write that falls between such a comparison and the taking anew: to the log, in the
milliseconds of a transaction; to the database, in those of a WAL checkpoint, an opening or a closing (which are seldom
but where times jump about: `day_files.MAX_OPEN_DAYS`). Then the file looks as we left it, and what was written is found
when SQLite meets it, by `sidecar verify`, or at the next start if this one does not end in good order. To shut this
window each page would have to be read again after it was written, which costs more than the writing. A write through
shared memory to the `-shm` is not seen either: SQLite itself writes there at any time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from peewee import DatabaseError, SqliteDatabase

from sidecar.errors import IndexDamaged
from sidecar.fs import FileStat, file_stat
from sidecar.store.connection import is_damage

MAX_WAL_BYTES = 2_000 * (4_096 + 24)
"""Of a write-ahead log, beyond which it is moved into its database: 2,000 pages, each with its header. Where it begins
anew it is cut to this length, and no shorter, because to write over a file is cheaper than to make it longer."""


def stat_after_write(name: str | Path) -> FileStat | None:
    """A file that was just written here, with its time of change set so that no other write bears the same.

    The kernel's own stamps come from a clock that ticks every few milliseconds: a foreign write in the tick of ours,
    which leaves the size as it is, would look like ours. The fine clock is all but never on a tick, and as honest.
    """
    now = time.time_ns()
    with suppress(OSError):  # gone, which `file_stat` will say, or another user's: then the tick has to do
        os.utime(name, ns=(now, now), follow_symlinks=False)
    return file_stat(name)


class FileState(NamedTuple):
    """How a database was left that was closed."""

    file: FileStat
    log: FileStat | None
    """Its write-ahead log, where that is still there and holds something, because somebody was reading. Whoever closes
    it last with leave to write moves the log into the file, rightly, and then deletes it."""

    def check(self, path: Path) -> None:
        """Raise IndexDamaged where it is not as it was left. With a log it may look otherwise, but not be gone."""
        now = file_stat(path)
        if now is None:
            raise IndexDamaged(f"{path} was deleted")
        if self.log is not None:
            return
        if now != self.file:
            raise IndexDamaged(f"{path} was replaced or written by somebody else")
        if _holding(f"{path}-wal") is not None:  # SQLite would take for committed what stands there
            raise IndexDamaged(f"{path}-wal was put there by somebody else")


FileStates = dict[Path, FileState]
"""How files were left, by their paths."""


def states_of(paths: Iterable[Path]) -> FileStates:
    """How files look that nobody here has open, and that are going to be checked: from now on nobody may touch them."""
    # The log first: where it is gone, whoever moved it into the file has come to his end.
    found = ((path, _holding(f"{path}-wal"), file_stat(path)) for path in paths)
    return {path: FileState(now, log) for path, log, now in found if now is not None}


def _holding(name: str) -> FileStat | None:
    """How a log looks that has something in it: who only reads may make an empty one."""
    log = file_stat(name)
    return log if log is not None and log.size else None


class TamperGuard:
    """What a database that is open for writing looks like, and every write to it: whoever owns the connection, owns
    its seal, and writes in `writing` alone."""

    def __init__(self, database: SqliteDatabase, path: Path) -> None:
        self.path = path
        self._database = database
        self._file_name, self._log_name, self._shared_name = (f"{path}{suffix}" for suffix in ("", "-wal", "-shm"))
        database.execute_sql(f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}")
        self._file = stat_after_write(self._file_name)
        self._log = stat_after_write(self._log_name)
        self._shared = file_stat(self._shared_name)

    def check(self) -> None:
        """Raise IndexDamaged where the files are not as they were left: what is written now may be lost with them, or
        hide the damage."""
        self._check_one(self._file_name, self._file)
        self._check_one(self._log_name, self._log)
        shared = file_stat(self._shared_name)
        if self._shared is not None and (shared is None or shared.identity != self._shared.identity):
            raise IndexDamaged(f"{self._shared_name} was deleted or replaced while it was in use")

    def _check_one(self, name: str, left: FileStat | None) -> None:
        now = file_stat(name)
        if now == left:
            return
        if left is not None and (now is None or now.identity != left.identity):
            raise IndexDamaged(f"{name} was deleted or replaced while it was written")
        if left is not None and now is not None and now.size < left.size:
            raise IndexDamaged(f"{name} was cut while it was written")
        raise IndexDamaged(f"{name} was written by somebody else")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction; within one, a part of it. Raises IndexDamaged, before anything is written, as `check` does.

        The log is looked at anew after a failure too: what does not fit into SQLite's memory is written there before
        it is committed.
        """
        if self._database.in_transaction():
            with self._database.atomic():
                yield
            return
        self.check()
        try:
            with self._database.atomic("IMMEDIATE"):
                yield
        finally:
            self._log = _renewed(self._log_name, self._log)
            if self._log is None:  # no shared memory here, so that SQLite keeps no log, and writes to the file
                self._file = _renewed(self._file_name, self._file)
        if self._log is not None and self._log.size > MAX_WAL_BYTES:
            self._move_log()

    def _move_log(self) -> None:
        """A WAL checkpoint, as far as readers let it go, in place of SQLite's automatic ones: the database file changes
        here, and at no other moment.

        The next commit begins the log anew where all of it was moved and nobody reads what stands there, and cuts it to
        the length that it may have, so that a longer one has so much in it again.
        """
        self.check()
        try:
            self._database.execute_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except DatabaseError as error:  # what is in the log stays there, and the next commit tries again
            if is_damage(error):
                raise
        finally:
            self._file = _renewed(self._file_name, self._file)

    def close(self) -> FileState | None:
        """Close the database, without its write-ahead log where that can be; says how it was left. None for one that
        was closed already. Raises IndexDamaged as `check` does; it is closed nevertheless.

        A file in rollback mode can be read from a folder that nobody may write to, and reading it makes no files.
        While somebody reads it the mode cannot change; then it stays as it is, which is correct too. So it does where
        the file has been moved away with its folder: SQLite would delete the log of another file by this name.
        """
        if self._database.is_closed():
            return None
        try:
            self.check()  # from here on SQLite writes into the file
            self._database.execute_sql("PRAGMA busy_timeout = 200")
            with suppress(DatabaseError):
                self._database.execute_sql("PRAGMA journal_mode = delete")
        finally:
            self._database.close()
        log = _holding(self._log_name)  # first, as above
        left = _renewed(self._file_name, self._file)
        return None if left is None else FileState(left, log)


def _renewed(name: str, before: FileStat | None) -> FileStat | None:
    """How a file looks after it was written here; as before where it is another one now, for the next check to say."""
    now = stat_after_write(name)
    return before if before is not None and (now is None or now.identity != before.identity) else now
