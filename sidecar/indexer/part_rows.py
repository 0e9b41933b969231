"""The catalog's rows about the files of logs: the earlier parts of rotated ones, and which log a file belonged to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from peewee import SqliteDatabase

from sidecar.fs import is_relative_path
from sidecar.ingest.linking import Request
from sidecar.ingest.source import SourceState
from sidecar.logs.parts import Part
from sidecar.logs.tail import Cursor

from .known_files import KnownFile

_CURSOR = "device, inode, size, mtime_ns, offset, lines, head, tail"
_SAVE = f"INSERT INTO part (source, number, path, {_CURSOR}, base) VALUES ({', '.join('?' * 12)})"
_SAVED_FILE = (
    "SELECT p.source, p.offset, p.base, s.stem, 1 FROM part p JOIN source s ON s.id = p.source WHERE p.path = ?1"
    " UNION ALL SELECT s.id, s.offset, COALESCE((SELECT MAX(p.base + p.offset) FROM part p WHERE p.source = s.id), 0),"
    " s.stem, EXISTS (SELECT 1 FROM part p WHERE p.source = s.id) FROM source s WHERE s.path = ?1"
)


class SavedFile(NamedTuple):
    """How far a file was read when its log was last saved."""

    source: int
    offset: int
    base: int
    """The position in the log at which the file begins."""
    ids_begin: str
    """What the ids of the log's entries begin with."""
    is_rotated: bool
    """Whether the log has earlier parts."""

    def requests_in(self, requests: Iterable[Request]) -> Iterable[Request]:
        """Those requests of its log that are in this file, with their byte offsets in it."""
        if not self.is_rotated:
            return requests
        here = (one for one in requests if self.base <= one.byte_offset < self.base + self.offset)
        return [one._replace(byte_offset=one.byte_offset - self.base) for one in here]


def path_in(value: object) -> str:
    """A value of a column that holds the path of a log, if it can be one. Raises ValueError otherwise: a path in an
    index is never trusted."""
    if not isinstance(value, str) or not is_relative_path(value):
        raise ValueError(f"{value!r} is not the path of a log")
    return value


def are_there(database: SqliteDatabase) -> bool:
    """Whether any log has earlier parts."""
    return bool(database.execute_sql("SELECT EXISTS (SELECT 1 FROM part)").fetchone()[0])


def known_parts(database: SqliteDatabase) -> Iterator[tuple[str, str, KnownFile]]:
    """The path of every earlier part, that of its log, and what its file looked like."""
    size = "IIF(p.offset < p.size OR p.offset = 0, -1, p.size)"
    sql = f"SELECT p.path, s.path, p.device, p.inode, {size}, p.mtime_ns FROM part p JOIN source s ON s.id = p.source"
    for path, log, *values in database.execute_sql(sql):
        if any(value.__class__ is not int for value in values):
            raise TypeError(f"{path!r} with {values}")
        yield path_in(path), path_in(log), KnownFile(*values)


def parts_of(database: SqliteDatabase, source: int) -> list[Part]:
    """The parts of a log of which something was read, the oldest first."""
    sql = f"SELECT path, {_CURSOR} FROM part WHERE source = ? AND offset > 0 ORDER BY number"
    rows = database.execute_sql(sql, (source,)).fetchall()
    if any(value.__class__ is not int for row in rows for value in row[1:]):
        raise TypeError(f"parts {rows}")
    return [Part(path_in(row[0]), Cursor(*row[1:])) for row in rows]


def resetting(database: SqliteDatabase) -> list[str]:
    """Paths of the sources that are being reset, and of their parts."""
    sql = (
        "SELECT path FROM source WHERE status = 'resetting' UNION"
        " SELECT p.path FROM part p JOIN source s ON s.id = p.source WHERE s.status = 'resetting'"
    )
    return [path_in(row[0]) for row in database.execute_sql(sql)]


def source_of_file(database: SqliteDatabase, device: int, inode: int) -> str | None:
    """The path of the source whose file was this one when it was last saved; None if there is none. An archived log has
    no file any more, and the next file that is made may get its inode."""
    sql = "SELECT path FROM source WHERE inode = ? AND device = ? AND status <> 'archived' LIMIT 1"
    row = database.execute_sql(sql, (inode, device)).fetchone()
    return None if row is None else path_in(row[0])


def saved_file(database: SqliteDatabase, path: str) -> SavedFile | None:
    """How far a file was read, whether it is an earlier part or not; None if it was never saved."""
    row = database.execute_sql(_SAVED_FILE, (path,)).fetchone()
    return None if row is None else SavedFile(int(row[0]), int(row[1]), int(row[2]), str(row[3]), bool(row[4]))


def save(database: SqliteDatabase, source: int, parts: list[tuple[Any, ...]]) -> None:
    """Replace the saved parts of a log, within a transaction of the caller."""
    database.execute_sql("DELETE FROM part WHERE source = ?", (source,))
    database.connection().executemany(_SAVE, [(source, *part) for part in parts])


def answered(
    progress: SourceState,
    places: list[tuple[int, int]],
    look_up: Callable[[str, list[tuple[int, int]]], Iterable[Request]],
) -> Iterator[Request]:
    """The answered requests at some days and positions in a log, in their order. `look_up` returns those in one file,
    given its path, and days and byte offsets in it."""
    if not progress.parts:
        yield from look_up(progress.path, places)
        return
    placed = [(day, *progress.placed(position)) for day, position in places]
    files = progress.files
    for number, group in groupby(placed, key=itemgetter(1)):
        base = progress.base_of(number)
        for request in look_up(files[number].path, [(day, offset) for day, _, offset in group]):
            yield request._replace(byte_offset=request.byte_offset + base)
