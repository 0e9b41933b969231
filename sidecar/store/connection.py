"""Open the database files of an index for writing or for reading, check them, and tell damage from other errors."""

from __future__ import annotations

import os
import sqlite3
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from peewee import DatabaseError, Model, PeeweeException, SchemaManager, SqliteDatabase

from sidecar.errors import IndexDamaged, IndexMissing, SchemaMismatch, SidecarError
from sidecar.guarded import GuardedFolder

from .bounded import ENDLESS, INTERRUPTED, BoundedDatabase
from .catalog_schema import CATALOG_TABLES, CATALOG_VIEWS
from .daily_schema import DAILY_TABLES, ENTRY_INDEXES, KSI_INDEX, SEGMENT_TABLES, STATISTICS
from .database_files import BESIDE, JOURNAL, WAL, check_to_read, check_to_write, uri
from .schema_check import OBJECTS, catalog_schema, daily_schema

T = TypeVar("T")

VERSION = 10
"""The version of the tables and of the law (docs/derivation.md), as `user_version`. An index of another version is
rebuilt, so every change of either needs a new one."""
DAILY = 0x53444441
"""The `application_id` of a daily file."""
CATALOG = 0x53444341
"""The `application_id` of a catalog."""
# `wal`: readers and the writer never wait for each other. `normal`: a commit is not synced, because `day_files.py` and
# `catalog_writer.py` decide what becomes durable and when. No automatic WAL checkpoints: `tamper.py` requests them.
# Temporary tables stay in memory, so that nothing is written outside the index folder.
_WRITING: dict[str, object] = {
    "journal_mode": "wal",
    "synchronous": "normal",
    "wal_autocheckpoint": 0,
    "temp_store": "memory",
}
_LOADING: dict[str, object] = {"journal_mode": "off", "synchronous": "off"}
_SEGMENT: dict[str, object] = {**_LOADING, "cache_size": -1024}
_CREATING: dict[str, object] = {"journal_mode": "memory", "synchronous": "full"}
DATABASE_ERRORS = (PeeweeException, sqlite3.Error)
"""What a database may raise: peewee's errors, and SQLite's own from statements that bypass peewee for speed."""
STATEMENT_ERRORS = (*DATABASE_ERRORS, UnicodeDecodeError)
"""What a statement may raise. SQLite's messages quote the file, and cannot be decoded if the quote is not UTF-8."""
_PAGE_BYTES = 4096
_SMALL_PAGE_BYTES = 1024
"""For daily files that grow row by row or have few rows: see `make_small`."""
VALUE_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError, zlib.error)
"""What decoding a row may raise if its values are not those that the sidecar writes."""
_DAMAGE = (
    "malformed",
    "not a database",
    "no such table",
    "no such column",
    "no such index",
    "no column named",
    "Could not decode",
    "too big",
    "unsupported file format",
)
"""Parts of the messages that SQLite gives for a damaged file."""
_UNREADABLE = "check the permissions of the index folder and of the files in it, and the disk"


def create(folder: GuardedFolder, name: str, kind: int, *, bulk: bool = False) -> SqliteDatabase:
    """Open a database file of a kind (`DAILY` or `CATALOG`) for writing, and create it if it does not exist.

    With `bulk`, nothing is journalled or synced, so the file is of no use after a crash. Raises IndexDamaged,
    SchemaMismatch, ForeignFile, OSError, and DATABASE_ERRORS.
    """
    path = folder.path / name
    if folder.status(name) is None:
        # Created under another name, so that no reader ever finds a file without tables. Synced, because what the
        # write-ahead log receives later is worth nothing without the tables.
        fresh = f"{name}.new"
        creating = {
            **(_LOADING if bulk else _CREATING),
            "page_size": _SMALL_PAGE_BYTES if kind == DAILY else _PAGE_BYTES,
        }
        with closing(_create_new(folder, fresh, creating)) as database, database.atomic():
            _create_tables(database, DAILY_TABLES if kind == DAILY else CATALOG_TABLES)
            finish_tables(database, kind)
            # In the same transaction, because a file without its day is taken for that of another day.
            if kind == DAILY:
                database.execute_sql("INSERT INTO meta VALUES ('day', ?)", (path.stem,))
        # SQLite would take what a deleted file has left beside it for parts of the new file.
        for suffix in BESIDE:
            folder.delete(name + suffix)
        folder.rename(fresh, name)
    database = _connect_for_writing(path, _LOADING if bulk else _WRITING)
    try:
        with database_damage_as_errors(path):
            check_to_write(folder, name)
            database.connect()
            # A crash leaves no empty file: see above.
            if check_version(database, path, kind) == 0:
                raise IndexDamaged(f"{path} is empty")
    except BaseException:
        database.close()
        raise
    return database


def create_segment(folder: GuardedFolder, name: str) -> SqliteDatabase:
    """Create a segment, and open it: a file with the tables of a daily file, but without their indexes. Nothing is
    journalled or synced."""
    database = _create_new(folder, name, _SEGMENT)
    database.connect()
    with database.atomic():
        _create_tables(database, SEGMENT_TABLES)
    return database


def open_segment(folder: GuardedFolder, name: str) -> SqliteDatabase:
    """Open a segment that is about to become a daily file. Nothing is journalled or synced."""
    check_to_write(folder, name)
    database = _connect_for_writing(folder.path / name, _LOADING)
    database.connect()
    return database


def _create_tables(database: SqliteDatabase, models: Iterable[type[Model]]) -> None:
    for model in models:
        SchemaManager(model, database).create_table()


def create_name_indexes(database: SqliteDatabase) -> None:
    """Create the indexes by which the strings and combinations of a daily file are found."""
    for model in DAILY_TABLES:
        SchemaManager(model, database).create_indexes()


def finish_tables(database: SqliteDatabase, kind: int) -> None:
    """Create what a file has besides its tables: indexes, views, statistics, and its kind and version."""
    for model in DAILY_TABLES if kind == DAILY else CATALOG_TABLES:
        SchemaManager(model, database).create_indexes()
    for sql in (*ENTRY_INDEXES, KSI_INDEX, *STATISTICS) if kind == DAILY else CATALOG_VIEWS:
        database.execute_sql(sql)
    database.execute_sql(f"PRAGMA application_id = {kind}")
    database.execute_sql(f"PRAGMA user_version = {VERSION}")


def first_and_last(database: SqliteDatabase) -> tuple[float, float]:
    """The first and the last timestamp in a daily file, in seconds since 1970; zeros if it has no entries."""
    # Two statements: SQLite reads MIN or MAX alone from one end of the index, but for both it reads every entry.
    first, last = (database.execute_sql(f"SELECT {end}(timestamp) FROM entry").fetchone()[0] for end in ("MIN", "MAX"))
    return float(first or 0), float(last or 0)


def count_entries(database: SqliteDatabase) -> int:
    """The number of entries in a daily file. Takes time: it walks through a whole index."""
    return int(database.execute_sql("SELECT COUNT(*) FROM entry").fetchone()[0])


def make_small(database: SqliteDatabase) -> None:
    """Rewrite a daily file with small pages, so that one with few entries takes a third of the space. The database must
    not be in WAL mode.

    A daily file has about 25 tables and indexes of at least one page each, and a log with wrong timestamps may have
    entries on thousands of days. A large file grows by 2.6 % with small pages (measured on 200,000 entries).
    """
    database.execute_sql(f"PRAGMA page_size = {_SMALL_PAGE_BYTES}")
    database.execute_sql("VACUUM")


def _create_new(folder: GuardedFolder, name: str, pragmas: dict[str, object]) -> SqliteDatabase:
    """A new, empty database, for writing. Files that a kill has left under its name are deleted."""
    for suffix in ("", *BESIDE):
        folder.delete(name + suffix)
    os.close(folder.create(name))
    check_to_write(folder, name)
    return _connect_for_writing(folder.path / name, pragmas)


def _connect_for_writing(path: Path, pragmas: dict[str, object]) -> SqliteDatabase:
    """A connection to a database that exists and has been checked (`check_to_write`)."""
    pragmas = {"page_size": _PAGE_BYTES, "cache_size": -8192, **pragmas}
    return SqliteDatabase(uri(path, "mode=rw"), uri=True, pragmas=pragmas, timeout=5)


def check_version(database: SqliteDatabase, path: Path, kind: int) -> int:
    """The version of a database: `VERSION`, or 0 if it is empty.

    Raises SchemaMismatch for any other version, and IndexDamaged for a database that is not the sidecar's, not of this
    kind, or contains something that the sidecar does not make (see `schema_check.py`).
    """
    version = int(database.execute_sql("PRAGMA user_version").fetchone()[0])
    found = int(database.execute_sql("PRAGMA application_id").fetchone()[0])
    if (version, found) == (0, 0):
        if database.execute_sql("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            raise IndexDamaged(f"{path} is a database, but not one of the sidecar's")
        return 0
    if found != kind:
        raise IndexDamaged(f"{path} is a database, but not the one that belongs there")
    if version != VERSION:
        raise SchemaMismatch(f"{path} has schema version {version}; this sidecar reads version {VERSION}")
    schema = daily_schema() if kind == DAILY else catalog_schema()
    if (stranger := schema.stranger(database.execute_sql(OBJECTS).fetchall())) is not None:
        raise IndexDamaged(f"{path}: {stranger!r} is not as the sidecar makes it")
    return version


def open_for_reading(path: Path, kind: int) -> BoundedDatabase:
    """Open a database file of a kind (`DAILY` or `CATALOG`) for reading only.

    Raises IndexMissing, IndexDamaged or SchemaMismatch, and SidecarError if the file exists but cannot be read at the
    moment.
    """
    # SQLite has one error for a missing file, a folder, and a lack of permission, so these are told apart here.
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
            # Deleted or moved a moment ago.
            if not path.exists():
                raise IndexMissing(f"{path} does not exist") from None
            # A file in WAL mode cannot be opened where its -shm cannot be created. If it has no -wal either, nobody has
            # it open for writing, which is what `immutable` promises to SQLite.
            if path.with_name(path.name + WAL).exists():
                raise
            database.close()
            database = _connect_for_reading(path, "mode=ro&immutable=1")
            version = check_version(database, path, kind)
        if version == 0:
            raise IndexMissing(f"{path} is empty")
    except STATEMENT_ERRORS as error:
        database.close()
        raise read_error(database, path, error) from error
    except BaseException:
        database.close()
        raise
    return database


def _connect_for_reading(path: Path, how: str) -> BoundedDatabase:
    pragmas = {"query_only": 1, "cache_size": -4096}
    return BoundedDatabase(path, uri(path, how), uri=True, pragmas=pragmas, timeout=5)


def roll_back_journal(folder: GuardedFolder, name: str) -> None:
    """Let SQLite roll back the transaction that a crash left in a rollback journal, which no reader can do. Raises
    ForeignFile, IndexDamaged, and DATABASE_ERRORS."""
    if folder.status(name) is not None and folder.status(name + JOURNAL) is not None:
        check_to_write(folder, name)
        path = folder.path / name
        with closing(_connect_for_writing(path, {})) as database, database_damage_as_errors(path):
            database.execute_sql("PRAGMA user_version").fetchone()


@contextmanager
def database_damage_as_errors(path: Path) -> Iterator[None]:
    """Raise IndexDamaged in place of the errors that SQLite raises for a damaged file. Other errors are not changed."""
    try:
        yield
    except STATEMENT_ERRORS as error:
        damage = _damage(path, error)
        if damage is None:
            raise
        raise damage from error


@contextmanager
def invalid_values_as_damage(path: Path) -> Iterator[None]:
    """Raise IndexDamaged in place of the errors that values cause which the sidecar never writes. Only for blocks that
    decode rows, because any TypeError or ValueError in the block is taken for such an error."""
    try:
        yield
    except VALUE_ERRORS as error:
        raise invalid_values(path, error) from error


def read_error(database: BoundedDatabase, path: Path, error: Exception) -> SidecarError:
    """The error of the sidecar for an error that a statement raised while `path` was read."""
    damage = _damage(path, error)
    if damage is not None:
        return damage
    if str(error) == INTERRUPTED:
        if database.counter.is_endless:
            return IndexDamaged(f"{path}: {ENDLESS}")
        # It was raised in the counter while SQLite ran, which has swallowed it.
        raise KeyboardInterrupt from error
    # A swap has moved the file while it was open, and SQLite looks for its journal by name.
    if not path.exists():
        return IndexMissing(f"{path} was moved or deleted while it was being read")
    # The file is busy or may not be read, or the disk fails. None of these is a reason to rebuild the index.
    return SidecarError(f"{path}: {error}", hint=_UNREADABLE)


def _damage(path: Path, error: Exception) -> IndexDamaged | None:
    # Comes from SQLite's message, which quotes the file: see STATEMENT_ERRORS.
    if isinstance(error, UnicodeDecodeError):
        return IndexDamaged(f"{path}: malformed: {error}")
    return IndexDamaged(f"{path}: {error}") if is_damage(error) else None


def invalid_values(path: Path, error: Exception) -> IndexDamaged:
    """The error of the sidecar for values in a file that the sidecar never writes."""
    return IndexDamaged(f"{path} contains values that the sidecar never writes ({error})")


def is_damage(error: BaseException) -> bool:
    """Whether an error means that the file itself is damaged, and not busy, unreadable, or on a full disk."""
    text = str(root_cause(error))
    return any(sign in text for sign in _DAMAGE)


def root_cause(error: BaseException) -> BaseException:
    """The first of the database errors that led to this one. On a full disk, for example, SQLite rolls back by itself,
    and then peewee's own rollback fails and hides the reason."""
    while isinstance(error.__context__, DATABASE_ERRORS):
        error = error.__context__
    return error
