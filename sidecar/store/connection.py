"""How a database of the index is opened, for writing and for reading, and how damage is told from other errors."""

from __future__ import annotations

import os
import sqlite3
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from peewee import DatabaseError, Model, PeeweeException, SchemaManager, SqliteDatabase

from sidecar.errors import ForeignFile, IndexDamaged, IndexMissing, SchemaMismatch, SidecarError
from sidecar.fs import try_file_stat
from sidecar.guarded import GuardedFolder, closing_fd

from .catalog_schema import CATALOG_TABLES, CATALOG_VIEWS
from .codec import checked_row
from .daily_schema import DAILY_TABLES, ENTRY_INDEXES, KSI_INDEX, SEGMENT_TABLES, STATISTICS
from .database_files import BESIDE, JOURNAL, check_to_read, check_to_write, uri

T = TypeVar("T")

VERSION = 3
"""Of the tables and of the law. A change of either makes old indexes differ, so that they are rebuilt."""
DAILY = 0x53444441
CATALOG = 0x53444341
"""`application_id` of the two kinds of file."""
# WAL, so that readers and the writer never wait for each other. NORMAL: a commit is not synced; `day_files.py`
# and `catalog_writer.py` say when and in which order they make things durable, `tamper.py` asks for WAL checkpoints.
# What is temporary stays in memory: nothing is written outside the index folder.
_WRITING: dict[str, object] = {
    "journal_mode": "wal",
    "synchronous": "normal",
    "wal_autocheckpoint": 0,
    "temp_store": "memory",
}
_LOADING: dict[str, object] = {"journal_mode": "off", "synchronous": "off"}
_PART: dict[str, object] = {**_LOADING, "cache_size": -1024}
_MAKING: dict[str, object] = {"journal_mode": "memory", "synchronous": "full"}
DATABASE_ERRORS = (PeeweeException, sqlite3.Error)
"""What a database may raise: a statement that goes past peewee, for speed, says it in SQLite's words."""
_STATEMENT_ERRORS = (*DATABASE_ERRORS, UnicodeDecodeError)
"""What a statement may raise: Python's sqlite3 decodes the texts of a row, and reports what is not UTF-8 itself."""
_PAGE = 4096
_SMALL_PAGE = 1024
"""Bytes of a page of a daily file that grows row by row, or has few: see `make_small`."""
_HEADER = b"SQLite format 3\0"
_HEADER_LENGTH = 100
_NONSENSE = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError, zlib.error)
_DAMAGE = ("malformed", "not a database", "no such table", "no such column", "no column named", "Could not decode")
_UNREADABLE = "check the permissions of the index folder and of what is in it, and the disk"


def create(folder: GuardedFolder, name: str, kind: int, *, bulk: bool = False) -> SqliteDatabase:
    """Open a database file for writing; where there is none, make one. Raises IndexDamaged or SchemaMismatch.

    With `bulk` nothing is journalled or synced: what a crash leaves is worth nothing.
    """
    path = folder.path / name
    if folder.status(name) is None:
        # Made under another name, so that no reader ever meets a file without tables. Synced, because all that is
        # written later, to the write-ahead log, is worth nothing without them.
        fresh = f"{name}.new"
        making = {**(_LOADING if bulk else _MAKING), "page_size": _SMALL_PAGE if kind == DAILY else _PAGE}
        with closing(_make_new(folder, fresh, making)) as database, database.atomic():
            _make_tables(database, DAILY_TABLES if kind == DAILY else CATALOG_TABLES)
            finish_tables(database, kind)
            if kind == DAILY:  # with the tables, and not after them: a file without its day is taken for another's
                database.execute_sql("INSERT INTO meta VALUES ('day', ?)", (path.stem,))
        for suffix in BESIDE:  # of a file that somebody deleted: it would be taken for ours
            folder.delete(name + suffix)
        folder.rename(fresh, name)
    database = _database(path, _LOADING if bulk else _WRITING)
    try:
        with database_damage_as_errors(path):
            check_to_write(folder, name)
            database.connect()
            if check_version(database, path, kind) == 0:  # this does not come of a crash: see above
                raise IndexDamaged(f"{path} is empty")
    except BaseException:
        database.close()
        raise
    return database


def create_segment(folder: GuardedFolder, name: str) -> SqliteDatabase:
    """A new file with the tables of a daily file and without indexes, for a part of a bulk load."""
    database = _make_new(folder, name, _PART)
    database.connect()
    with database.atomic():
        _make_tables(database, SEGMENT_TABLES)
    return database


def open_segment(folder: GuardedFolder, name: str) -> SqliteDatabase:
    """A part, to be made a daily file of."""
    check_to_write(folder, name)
    database = _database(folder.path / name, _LOADING)
    database.connect()
    return database


def _make_tables(database: SqliteDatabase, models: Iterable[type[Model]]) -> None:
    for model in models:
        SchemaManager(model, database).create_table()


def create_name_indexes(database: SqliteDatabase) -> None:
    """Make the indexes of a daily file by which its strings and combinations are found."""
    for model in DAILY_TABLES:
        SchemaManager(model, database).create_indexes()


def finish_tables(database: SqliteDatabase, kind: int) -> None:
    """Make what a file has beyond its tables: indexes, views, and the mark of what it is."""
    for model in DAILY_TABLES if kind == DAILY else CATALOG_TABLES:
        SchemaManager(model, database).create_indexes()
    for sql in (*ENTRY_INDEXES, KSI_INDEX, *STATISTICS) if kind == DAILY else CATALOG_VIEWS:
        database.execute_sql(sql)
    database.execute_sql(f"PRAGMA application_id = {kind}")
    database.execute_sql(f"PRAGMA user_version = {VERSION}")


def first_and_last(database: SqliteDatabase) -> tuple[float, float]:
    """First and last timestamp in a daily file; zeros for none."""
    # Two statements: SQLite takes the end of an index for one of MIN and MAX, and walks for both.
    first, last = (database.execute_sql(f"SELECT {end}(timestamp) FROM entry").fetchone()[0] for end in ("MIN", "MAX"))
    return float(first or 0), float(last or 0)


def count_entries(database: SqliteDatabase) -> int:
    """Entries in a daily file."""
    return int(database.execute_sql("SELECT COUNT(*) FROM entry").fetchone()[0])


def make_small(database: SqliteDatabase) -> None:
    """Write a daily file that is not in WAL mode anew, with small pages: one of few entries then takes a third.

    It has some 25 tables and indexes, each of one page at least, and a log of odd times touches thousands of days. In
    a large file such pages cost 2.6 % of its size (measured on 200,000 entries).
    """
    database.execute_sql(f"PRAGMA page_size = {_SMALL_PAGE}")
    database.execute_sql("VACUUM")


def _make_new(folder: GuardedFolder, name: str, pragmas: dict[str, object]) -> SqliteDatabase:
    """A new database, to be written: what a kill has left under its name goes."""
    for suffix in ("", *BESIDE):
        folder.delete(name + suffix)
    os.close(folder.create(name))
    check_to_write(folder, name)
    return _database(folder.path / name, pragmas)


def _database(path: Path, pragmas: dict[str, object]) -> SqliteDatabase:
    """A database that is there and was checked, to be written."""
    pragmas = {"page_size": _PAGE, "cache_size": -8192, **pragmas}
    return SqliteDatabase(uri(path, "mode=rw"), uri=True, pragmas=pragmas, timeout=5)


def check_version(database: SqliteDatabase, path: Path, kind: int) -> int:
    """The version of the tables, 0 for an empty file; raises SchemaMismatch or IndexDamaged for any other."""
    version = int(database.execute_sql("PRAGMA user_version").fetchone()[0])
    found = int(database.execute_sql("PRAGMA application_id").fetchone()[0])
    if (version, found) == (0, 0):
        if database.execute_sql("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            raise IndexDamaged(f"{path} is a database, but none of the sidecar's")
        return 0
    if found != kind:
        raise IndexDamaged(f"{path} is a database, but not the one that belongs there")
    if version != VERSION:
        raise SchemaMismatch(f"{path} has schema version {version}; this sidecar reads version {VERSION}")
    return version


def open_for_reading(path: Path, kind: int) -> SqliteDatabase:
    """Open a database file that nobody can write through this connection.

    Raises IndexMissing, IndexDamaged or SchemaMismatch; SidecarError where it is there and cannot be read now.
    """
    # sqlite would report a missing file, a folder and a lack of permission all alike
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise IndexMissing(f"{path} does not exist") from None
    except OSError as error:
        raise SidecarError(f"{path}: {error.strerror}", hint=_UNREADABLE) from error
    if not stat.S_ISREG(mode):
        raise IndexDamaged(f"{path} is not a file")
    check_to_read(path)
    database = _connect_for_reading(path, "mode=ro")
    try:
        try:
            version = check_version(database, path, kind)
        except DatabaseError as error:
            if "unable to open" not in str(error) and "readonly" not in str(error):
                raise
            if not path.exists():  # deleted or moved since
                raise IndexMissing(f"{path} does not exist") from None
            # A file in WAL mode cannot be opened where its -shm cannot be made. In a folder that nobody can
            # write to, and without a -wal, nobody writes either, which is what `immutable` asks for.
            if path.with_name(path.name + "-wal").exists():
                raise
            database.close()
            database = _connect_for_reading(path, "mode=ro&immutable=1")
            version = check_version(database, path, kind)
        if version == 0:
            raise IndexMissing(f"{path} is empty")
    except _STATEMENT_ERRORS as error:
        database.close()
        raise _read_error(path, error) from error
    except BaseException:
        database.close()
        raise
    return database


def _connect_for_reading(path: Path, how: str) -> SqliteDatabase:
    return SqliteDatabase(uri(path, how), uri=True, pragmas={"query_only": 1, "cache_size": -4096}, timeout=5)


def roll_back_journal(folder: GuardedFolder, name: str) -> None:
    """Let SQLite undo what a crash left in a rollback journal: who only reads may not. Raises IndexDamaged."""
    if folder.status(name) is not None and folder.status(name + JOURNAL) is not None:
        check_to_write(folder, name)
        path = folder.path / name
        with closing(_database(path, {})) as database, database_damage_as_errors(path):
            database.execute_sql("PRAGMA user_version").fetchone()


def looks_whole(folder: GuardedFolder, name: str) -> bool:
    """Whether a file is there, begins as a database does, and is as long as it says. Only for one that this process has
    not open."""
    try:
        with closing_fd(folder.open_file(name)) as fd:
            status = os.fstat(fd)
            header = os.pread(fd, _HEADER_LENGTH, 0)
    except (FileNotFoundError, ForeignFile):
        return False
    if not header.startswith(_HEADER) or len(header) < _HEADER_LENGTH:
        return False
    page, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    is_told = header[24:28] == header[92:96]  # else the number of pages was written by a SQLite that did not keep it
    return not is_told or status.st_size >= pages * (65536 if page == 1 else page)


@contextmanager
def database_damage_as_errors(path: Path) -> Iterator[None]:
    """Raise IndexDamaged for what SQLite says of a broken file; other errors pass."""
    try:
        yield
    except _STATEMENT_ERRORS as error:
        damage = _damage(path, error)
        if damage is None:
            raise
        raise damage from error


@contextmanager
def invalid_values_as_damage(path: Path) -> Iterator[None]:
    """Raise IndexDamaged for errors that come of values which the sidecar never writes. Wrap only what decodes rows."""
    try:
        yield
    except _NONSENSE as error:
        raise _invalid_values(path, error) from error


def _read_error(path: Path, error: Exception) -> SidecarError:
    """The error to raise for one that a statement raised while `path` was read."""
    damage = _damage(path, error)
    if damage is not None:
        return damage
    if not path.exists():  # a swap has moved it from under the open file, whose journal SQLite looks for by name
        return IndexMissing(f"{path} was moved or deleted while it was read")
    # Busy, forbidden, or a disk that fails: none of it says that the index has to be made again.
    return SidecarError(f"{path}: {error}", hint=_UNREADABLE)


def _damage(path: Path, error: Exception) -> IndexDamaged | None:
    if isinstance(error, UnicodeDecodeError):  # what SQLite would say repeats what stands in the file
        return IndexDamaged(f"{path}: malformed: {error}")
    return IndexDamaged(f"{path}: {error}") if is_damage(error) else None


def _invalid_values(path: Path, error: Exception) -> IndexDamaged:
    return IndexDamaged(f"{path}: holds what the sidecar never writes ({error})")


def is_damage(error: BaseException) -> bool:
    """The file itself is broken, as against busy, full or forbidden."""
    text = str(root_cause(error))
    return any(sign in text for sign in _DAMAGE)


def root_cause(error: BaseException) -> BaseException:
    """The error that others came of: SQLite rolls back by itself when a disk is full, and to do it again fails too."""
    while isinstance(error.__context__, DATABASE_ERRORS):
        error = error.__context__
    return error


# ---- reading


class OpenDatabase:
    """An index file, open for reading."""

    kind: int
    """Which of the two kinds of file it has to be: `DAILY` or `CATALOG`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity = _identity(path)
        self._database = open_for_reading(path, self.kind)

    def is_current(self) -> bool:
        """Whether the file of this name is still the one that is open."""
        return _identity(self.path) == self.identity

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # Every statement of a reader goes through `_all` or `_each`: they alone turn SQLite's errors into the sidecar's.

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows as SQLite has them. Raises IndexDamaged, IndexMissing, or SidecarError for what may pass."""
        try:
            rows: list[tuple[Any, ...]] = self._database.execute_sql(sql, values).fetchall()
        except _STATEMENT_ERRORS as error:
            raise _read_error(self.path, error) from error
        return rows

    def _decoded(self, decode: Callable[[Any], T], sql: str, *values: Any) -> list[T]:
        """What `decode` makes of each row. Raises IndexDamaged for rows it fails on, else as `_all`."""
        rows = self._all(sql, *values)
        try:
            return [decode(row) for row in rows]
        except _NONSENSE as error:
            raise _invalid_values(self.path, error) from error

    def _each(self, decode: Callable[[Any], T], sql: str) -> Iterator[T]:
        """As `_decoded`, row by row: for answers that do not fit into memory."""
        try:
            for row in self._database.execute_sql(sql):
                yield decode(row)
        except _STATEMENT_ERRORS as error:
            raise _read_error(self.path, error) from error
        except _NONSENSE as error:
            raise _invalid_values(self.path, error) from error

    def _typed(self, types: tuple[type, ...], sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of just these types: SQLite keeps a text where a number should be, and an index may be anybody's."""
        return self._decoded(lambda row: checked_row(row, types), sql, *values)


def _identity(path: Path) -> tuple[int, int] | None:
    stat = try_file_stat(path)
    return None if stat is None else stat.identity
