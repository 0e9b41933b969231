"""Detects what other processes write to index files, by inode, size and modification time.

SQLite reports a damaged page only when it reads that page, which may be never, and its next WAL checkpoint may
overwrite the evidence: a file that was truncated is long again, with holes. But nobody else may write to an index file,
and the sidecar knows when it writes itself: to the write-ahead log (WAL) in its transactions, to the database file in
the WAL checkpoints that it requests, and to both when it opens or closes a file. So the state of both files is compared
before each of these writes, and recorded again after it. Readers change neither. Nor does a process that opens the file
for writing and writes nothing: as long as the sidecar has the file open, no other connection is the last one to close,
which would move the WAL into the database.

A closed file is compared with how it was left for as long as the sidecar runs, failures included; a file that was not
opened yet, with how it was found at the start, before it was checked. The catalog notes how files were left at the end,
and the next start checks in full what looks different.

Not detected is a foreign write between such a comparison and the next recording: to the WAL, within the milliseconds of
a transaction; to the database, within those of a WAL checkpoint, an opening or a closing (rare, unless timestamps jump
between many days: `day_files.MAX_OPEN_DAYS`). The file then looks as we left it, and the write is found when SQLite
reads the page, by `sidecar verify`, or at the next start unless this run ends in good order. To close this window, each
page would have to be read back after it was written, which costs more than the writing. A write to the `-shm` through
shared memory is not detected either: SQLite itself writes there at any time.
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
from sidecar.store.database_files import SHARED_MEMORY, WAL

MAX_WAL_BYTES = 2_000 * (4_096 + 24)
"""Size of a WAL from which on it is moved into its database: 2,000 pages, each with its header. A longer one is
truncated to this size when it starts over, and no further, because overwriting a file is cheaper than extending it."""


def stat_after_write(name: str | Path) -> FileStat | None:
    """The stat of a file that we have just written, with a modification time that no other write can have; None if
    there is no such file. Raises OSError if that is unknown.

    The kernel takes modification times from a clock that ticks every few milliseconds, so a foreign write within the
    same tick that leaves the size as it is would look like ours. The time that is set here is exact, and almost never
    on a tick.
    """
    now = time.time_ns()
    # Fails if there is no file, which `file_stat` finds, or if it is another user's, which keeps the kernel's time.
    with suppress(OSError):
        os.utime(name, ns=(now, now), follow_symlinks=False)
    return file_stat(name)


class FileState(NamedTuple):
    """How a closed database was left."""

    file: FileStat
    log: FileStat | None
    """Its WAL, if there is one that is not empty, because the database was being read when it was closed. The last
    reader to close, if it may write, moves the WAL into the database and deletes it, as it should."""

    def check(self, path: Path) -> None:
        """Raise IndexDamaged if the database is not as it was left. One that had a WAL only has to exist."""
        now = file_stat(path)
        if now is None:
            raise IndexDamaged(f"{path} was deleted")
        if self.log is not None:
            return
        if now != self.file:
            raise IndexDamaged(f"{path} was replaced or written by another process")
        # SQLite would take its content for committed.
        if _filled_log(f"{path}{WAL}") is not None:
            raise IndexDamaged(f"{path}{WAL} was put there by another process")


FileStates = dict[Path, FileState]
"""How files were left, by path."""


def states_of(paths: Iterable[Path]) -> FileStates:
    """The states of files that are not open here, as a basis for later comparisons. Missing ones are left out."""
    # The WAL first: once it is gone, the reader that moved it into the file has finished.
    found = ((path, _filled_log(f"{path}{WAL}"), file_stat(path)) for path in paths)
    return {path: FileState(now, log) for path, log, now in found if now is not None}


def _filled_log(name: str) -> FileStat | None:
    """The stat of a WAL that is not empty: a reader may leave an empty one."""
    log = file_stat(name)
    return log if log is not None and log.size else None


class TamperGuard:
    """Watches over a database that is open for writing. The owner of the connection owns the guard, and writes only
    within `writing`."""

    def __init__(self, database: SqliteDatabase, path: Path) -> None:
        self.path = path
        self._database = database
        self._file_name, self._log_name, self._shared_name = (f"{path}{suffix}" for suffix in ("", WAL, SHARED_MEMORY))
        database.execute_sql(f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}")
        self._file = stat_after_write(self._file_name)
        self._log = stat_after_write(self._log_name)
        self._shared = file_stat(self._shared_name)

    def check(self) -> None:
        """Raise IndexDamaged if another process has changed the files. What would be written now might be lost with
        them, or hide the damage."""
        self._check_one(self._file_name, self._file)
        self._check_one(self._log_name, self._log)
        shared = file_stat(self._shared_name)
        if self._shared is not None and (shared is None or shared.identity != self._shared.identity):
            raise IndexDamaged(f"{self._shared_name} was deleted or replaced while the index was open")

    def _check_one(self, name: str, left: FileStat | None) -> None:
        now = file_stat(name)
        if now == left:
            return
        if left is not None and (now is None or now.identity != left.identity):
            raise IndexDamaged(f"{name} was deleted or replaced while the index was open")
        if left is not None and now is not None and now.size < left.size:
            raise IndexDamaged(f"{name} was truncated by another process")
        raise IndexDamaged(f"{name} was written by another process")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction, or within another one a part of it. Raises IndexDamaged as `check`, before anything is
        written, and what SQLite raises.

        The WAL is recorded after a failure too: what does not fit into SQLite's memory is written to it before the
        commit.
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
            self._log = _recorded(self._log_name, self._log)
            # Without shared memory there is no WAL, and SQLite writes to the file itself.
            if self._log is None:
                self._file = _recorded(self._file_name, self._file)
        if self._log is not None and self._log.size > MAX_WAL_BYTES:
            self._checkpoint_log()

    def _checkpoint_log(self) -> None:
        """Make a WAL checkpoint, as far as readers allow it. SQLite's automatic ones are off, so that the database file
        changes only here, and when it is opened or closed.

        When all of the WAL has been moved and nobody reads from it, the next commit starts it over and truncates it to
        `MAX_WAL_BYTES`. So a longer one has at least that much in it which has not been moved.
        """
        self.check()
        try:
            self._database.execute_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except DatabaseError as error:
            # The WAL keeps what it has, and the next commit tries again.
            if is_damage(error):
                raise
        finally:
            self._file = _recorded(self._file_name, self._file)

    def close(self) -> FileState | None:
        """Close the database, in rollback mode where possible. Returns how it was left; None where it was closed
        already. Raises IndexDamaged as `check`; it is closed nevertheless.

        In rollback mode a database can be read in a read-only folder, and reading it makes no files. While it is being
        read its mode cannot change, and it stays in WAL mode, which is correct too. So it does where `check` fails: if
        the folder was moved away, SQLite would delete the WAL of another file by this name.
        """
        if self._database.is_closed():
            return None
        try:
            # From here on SQLite writes to the database file.
            self.check()
            self._database.execute_sql("PRAGMA busy_timeout = 200")
            with suppress(DatabaseError):
                self._database.execute_sql("PRAGMA journal_mode = delete")
        finally:
            self._database.close()
        # The WAL first, as in `states_of`.
        log = _filled_log(self._log_name)
        left = _recorded(self._file_name, self._file)
        return None if left is None else FileState(left, log)


def _recorded(name: str, before: FileStat | None) -> FileStat | None:
    """The stat of a file after we have written it; if it is another file now, the earlier one, so that the next check
    reports it."""
    now = stat_after_write(name)
    return before if before is not None and (now is None or now.identity != before.identity) else now
