"""Which open requests have their answer in another file (`docs/derivation.md`, section 6), for sources with
`answers_across_files`.

For each such log the catalog has its open requests by correlation (`open_request.awaits`), and the correlations of its
answers that belong to no request of the log (`loose_answer`). A request is marked if another log has a loose answer
with its correlation. So marks follow from the catalog alone, and the order of files does not show in them.

Marks are written to the daily files before the catalog is saved, like rows, and their logs are touched, so that the
crash windows are those of rows (`day_files.py`): the next opening takes marks back together with the rows that no
checkpoint covers, and sets again those that follow from the saved catalog. It does the same if a log was being reset or
dropped, because a kill between the catalog and the daily files may leave requests marked whose answer is gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from peewee import SqliteDatabase

from sidecar.times import SECONDS_PER_DAY

from .saved_source import SavedSource

# Where a request is: the path of the file, its time, and the byte offset in the file, which may be an earlier part.
_PLACE = (
    "COALESCE(p.path, s.path), o.timestamp, o.byte_offset - COALESCE(p.base,"
    " (SELECT MAX(q.base + q.offset) FROM part q WHERE q.source = o.source), 0)"
)
_REQUESTS = (
    " FROM open_request o JOIN source s ON s.id = o.source LEFT JOIN part p"
    " ON p.source = o.source AND o.byte_offset >= p.base AND o.byte_offset < p.base + p.offset"
)
_WAITING = f"SELECT {_PLACE}, o.source, o.byte_offset{_REQUESTS} WHERE o.awaits = ?"
_ALL = (
    f"SELECT {_PLACE}, EXISTS"
    " (SELECT 1 FROM loose_answer l WHERE l.correlation = o.awaits AND l.source <> o.source)"
    f"{_REQUESTS} WHERE o.awaits IS NOT NULL"
)
_SAVE = "INSERT OR IGNORE INTO loose_answer (correlation, source) VALUES (?, ?)"
_DELETE = "DELETE FROM loose_answer WHERE correlation = ? AND source = ?"

_Waiting = tuple[str, float, int, int, int]
"""An open request: the path of its file, its time, its byte offset there, the id of its source, and its position in the
log."""


class Mark(NamedTuple):
    """Whether an open request has an answer in another log."""

    path: str
    day: int
    byte_offset: int
    is_answered: bool


class AnswersAcross:
    """The part of the catalog that deals with answers in other logs."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def save(self, sources: Iterable[SavedSource]) -> None:
        """Save what has changed in the loose answers of some sources, within a transaction of the caller."""
        changes = [(key, one.source[0], there) for one in sources for key, there in one.loose]
        run = self._database.connection().executemany
        run(_DELETE, [(key, source) for key, source, there in changes if not there])
        run(_SAVE, [(key, source) for key, source, there in changes if there])

    def changes(self, sources: Iterable[SavedSource]) -> list[Mark]:
        """The marks of all requests that the next save of some sources may concern. To be called before the save."""
        loose: defaultdict[str, dict[int, bool]] = defaultdict(dict)
        opened: defaultdict[str, list[_Waiting]] = defaultdict(list)
        closed: set[tuple[int, int]] = set()
        for one in sources:
            source = one.source[0]
            for key, there in one.loose:
                loose[key][source] = there
            for position, *_, timestamp, awaits in one.opened:
                if awaits is not None:
                    path, byte_offset = one.placed(position)
                    opened[awaits].append((path, timestamp, byte_offset, source, position))
            closed.update((source, position) for position in one.closed)
        marks: list[Mark] = []
        for key in sorted(loose.keys() | opened.keys()):
            answering = self._answering(key) - loose[key].keys() | {one for one, there in loose[key].items() if there}
            waiting = [one for one in self._waiting(key) if one[3:] not in closed]
            marks += _marks([*waiting, *opened[key]], answering)
        return marks

    def keys_of(self, sources: Iterable[int]) -> list[str]:
        """The correlations of the loose answers of some sources, which are given by their ids. To be called before
        these are deleted."""
        sql = "SELECT correlation FROM loose_answer WHERE source = ?"
        return [str(key) for source in sources for (key,) in self._database.execute_sql(sql, (source,))]

    def marks_of(self, keys: Iterable[str]) -> list[Mark]:
        """The marks of all requests that await these correlations."""
        return [mark for key in dict.fromkeys(keys) for mark in _marks(self._waiting(key), self._answering(key))]

    def all_marks(self) -> Iterator[Mark]:
        """The marks of all requests that await an answer."""
        for path, timestamp, byte_offset, is_answered in self._database.execute_sql(_ALL):
            yield Mark(path, _day(timestamp), byte_offset, bool(is_answered))

    def add_elsewhere(self, keys: Iterable[str]) -> None:
        """Add loose answers with these correlations that are in a log which is not among the sources."""
        self._database.connection().executemany(_SAVE, [(key, 0) for key in keys])

    def _answering(self, key: str) -> set[int]:
        sql = "SELECT source FROM loose_answer WHERE correlation = ?"
        return {source for (source,) in self._database.execute_sql(sql, (key,))}

    def _waiting(self, key: str) -> list[_Waiting]:
        rows: list[_Waiting] = self._database.execute_sql(_WAITING, (key,)).fetchall()
        return rows


def _marks(waiting: Iterable[_Waiting], answering: set[int]) -> Iterator[Mark]:
    for path, timestamp, byte_offset, source, _ in waiting:
        yield Mark(path, _day(timestamp), byte_offset, bool(answering - {source}))


def _day(timestamp: float) -> int:
    if timestamp.__class__ is not float:
        raise TypeError(f"the time {timestamp!r}")
    return int(timestamp // SECONDS_PER_DAY)
