"""Reading one daily file and the catalog: SQL in, values out. `query.py` puts the days together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from . import swap
from .errors import IndexMissing
from .paths import split_path
from .records import AgentSummary, Entry, RejectedLine, Session
from .rows import agents_of, checked, checked_columns, entry_of
from .schema import CATALOG, DAILY, nonsense_named, open_for_reading, trouble_named

SECONDS_A_DAY = 86400
_EPOCH = date(1970, 1, 1).toordinal()
_LAST_SECOND = 253_402_300_799.0
"""Of the year 9999."""

_PATH = "f.text || s.stem || s.suffix"
_PLACED = "JOIN source s ON s.id = e.source JOIN label f ON f.id = s.folder"
_CHOSEN = f"SELECT e.*, s.stem, {_PATH} AS path FROM entry e {_PLACED} WHERE "
_CAME = f"SELECT e.*, s.stem, {_PATH} AS path FROM entry e NOT INDEXED {_PLACED} WHERE "
"""Walks along the numbers, whatever else is asked for."""
_NAMED = (
    "SELECT e.id, e.stem || ':' || e.byte_offset, e.timestamp, t.text, n.text, e.path, e.line_number, e.byte_offset,"
    " i.text, p.agents, p.roles, a.text, c.text, r.text,"
    " e.is_completion, e.is_request, e.has_response, e.requests_response FROM ({chosen}) e"
    " JOIN label t ON t.id = e.event_type JOIN label n ON n.id = e.session JOIN label i ON i.id = e.initiating_agent"
    " JOIN party p ON p.id = e.party JOIN label a ON a.id = e.pattern JOIN label c ON c.id = e.conversation"
    " LEFT JOIN label r ON r.id = e.correlation ORDER BY {order}"
)


class Place(NamedTuple):
    """Where an entry stands in the order of time."""

    timestamp: float
    file_path: str
    byte_offset: int

    @classmethod
    def of(cls, entry: Entry) -> Place:
        """The place of an entry."""
        return cls(entry.timestamp, entry.file_path, entry.byte_offset)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted. None fits everything."""

    since: float | None = None
    """From this moment on."""
    until: float | None = None
    """Before this moment."""
    agent: str | None = None
    session: str | None = None
    event_type: str | None = None
    pattern: str | None = None
    conversation: str | None = None
    correlation: str | None = None
    after: float | None = None
    """After this moment, and not at it, as the reference's questions have it."""
    pending: bool = False
    """Requests that wait for a response."""

    def may_lie_on(self, day: str) -> bool:
        """Whether an entry of this day can fit; a day's file is named after its UTC date."""
        since = max((moment for moment in (self.since, self.after) if moment is not None), default=None)
        return (since is None or day_of(since) <= day) and (self.until is None or day_of(self.until) >= day)


def day_of(timestamp: float) -> str:
    """The UTC date of a moment, for any moment: beyond the calendar it is the first or the last day."""
    # Not by datetime, which rounds to microseconds, and the last of them before midnight into the next day.
    whole = int(min(max(timestamp, 0.0), _LAST_SECOND) // SECONDS_A_DAY)
    return date.fromordinal(_EPOCH + whole).isoformat()


class _Opened:
    """An index file, open for reading."""

    kind: int
    """Which of the two kinds of file it has to be: see `schema.py`."""

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

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with trouble_named(self.path):
            rows: list[tuple[Any, ...]] = self._database.execute_sql(sql, values).fetchall()
        return rows

    def _typed(self, types: tuple[type, ...], sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """As `_all`, of an index that may come from anybody: SQLite keeps a text where a number should stand."""
        rows = self._all(sql, *values)
        with nonsense_named(self.path):
            for row in rows:
                checked(row, types)
        return rows


class Day(_Opened):
    """One daily file, open for reading."""

    kind = DAILY

    def page(self, wanted: Filter, after: Place | None, size: int, reverse: bool) -> list[Entry]:
        """The next entries that fit, behind a place, in the order of time; `size` of them unless there are no more."""
        where = self._where(wanted)
        if where is None:
            return []
        sql, values = where
        ahead, up_to = ("<", ">=") if reverse else (">", "<=")
        if after is not None:
            sql += f" AND e.timestamp {ahead}= ? AND (e.timestamp, {_PATH}, e.byte_offset) {ahead} (?, ?, ?)"
            values += [after.timestamp, *after]
        if wanted.agent is None or (wanted.session or wanted.conversation or wanted.correlation) is not None:
            return self._entries(sql, values, size, reverse)
        # The entries of an agent lie in as many runs of an index as there are sets that it is in. To name and sort
        # all of them for one page would cost a whole day, so each run is cut where enough of them have come.
        reach = size
        while True:
            bound = self._bound(wanted, after, reach, reverse)
            if bound is None:
                return self._entries(sql, values, size, reverse)
            page = self._entries(f"{sql} AND e.timestamp {up_to} ?", [*values, bound], size, reverse)
            if len(page) == size:
                return page
            reach *= 8  # what else is asked for is rare

    def _bound(self, wanted: Filter, after: Place | None, reach: int, reverse: bool) -> float | None:
        """A moment by which at least `reach` entries of the agent have come; None where there are not so many."""
        begin, ahead, way = (inf, "<", " DESC") if reverse else (-inf, ">", "")
        limits = (after and after.timestamp, *((wanted.until,) if reverse else (wanted.since, wanted.after)))
        for moment in limits:
            if moment is not None:
                begin = min(begin, moment) if reverse else max(begin, moment)
        sql = (
            "SELECT timestamp FROM entry WHERE party IN (SELECT party FROM party_agent WHERE agent ="
            f" (SELECT id FROM label WHERE text = ?)) AND timestamp {ahead} ?"
            f" ORDER BY timestamp{way} LIMIT 1 OFFSET ?"
        )
        rows = self._all(sql, wanted.agent, begin, reach - 1)
        return float(rows[0][0]) if rows else None

    def news(self, wanted: Filter, after: int, size: int) -> tuple[int, list[Entry]]:
        """Entries that fit and were written after the one numbered `after`, and the number of the last looked at."""
        # The end first: what is written between the two queries is left for the next call.
        last = self.last_number()
        if last <= after:
            return after, []
        last = min(last, after + size)
        where = self._where(wanted, by_index=False)
        if where is None:
            return last, []
        sql, values = where
        chosen = f"{_CAME}e.id > ? AND e.id <= ? AND {sql} ORDER BY e.id LIMIT ?"
        rows = self._all(_NAMED.format(chosen=chosen, order="e.id"), after, last, *values, size)
        with nonsense_named(self.path):
            return last, [entry_of(row) for row in rows]

    def last_number(self) -> int:
        """The number of the entry written last; numbers only grow."""
        rows = self._all("SELECT MAX(id) FROM entry")
        return int(rows[0][0] or 0)

    def furthest(self) -> dict[str, int]:
        """For each log file, the byte offset of its last entry on this day."""
        sql = (
            f"SELECT {_PATH}, e.byte_offset FROM (SELECT source, MAX(byte_offset) AS byte_offset FROM entry"
            f" GROUP BY source) e {_PLACED}"
        )
        return dict(self._typed((str, int), sql))

    def at(self, name: str, byte_offset: int) -> list[Entry]:
        """Entries at an offset in a log file, which is given by its path or, without folder and suffix, by its stem."""
        where = f"s.stem IN (?, ?) AND (s.stem = ? OR {_PATH} = ?) AND e.byte_offset = ?"
        return self._entries(where, [name, split_path(name)[1], name, name, byte_offset], 100, reverse=False)

    def place(self, path: str, byte_offset: int) -> tuple[int, int] | None:
        """Length and checksum of the record at a place; None where no entry points there."""
        sql = (
            "SELECT e.byte_length, e.checksum FROM source s JOIN label f ON f.id = s.folder"
            " JOIN entry e ON e.source = s.id WHERE f.text = ? AND s.stem = ? AND s.suffix = ? AND e.byte_offset = ?"
        )
        rows = self._typed((int, int), sql, *split_path(path), byte_offset)
        return (rows[0][0], rows[0][1]) if rows else None

    def places(self) -> Iterator[tuple[Any, ...]]:
        """Path, byte offset, length and checksum of every entry, in the order of path and offset."""
        sql = (
            f"SELECT {_PATH}, e.byte_offset, e.byte_length, e.checksum FROM entry e {_PLACED} ORDER BY 1, 2"
        )
        with trouble_named(self.path), nonsense_named(self.path):
            for row in self._database.execute_sql(sql):
                yield checked(row, (str, int, int, int))

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The view `ksi_index`, whole, in the order of path and offset."""
        with trouble_named(self.path), nonsense_named(self.path):
            for row in self._database.execute_sql("SELECT * FROM ksi_index ORDER BY file_path, byte_offset"):
                yield checked_columns(row)

    def facts(self) -> dict[str, str]:
        """What the file says of itself: its `day`, and the `checkpoint` that last wrote it."""
        return dict(self._typed((str, str), "SELECT key, value FROM meta"))

    def agents(self) -> Iterator[AgentSummary]:
        """Who took part in anything on this day."""
        sql = (
            "SELECT l.text, SUM(x.entries), MIN(x.first), MAX(x.last) FROM (SELECT party, COUNT(*) AS entries,"
            " MIN(timestamp) AS first, MAX(timestamp) AS last FROM entry GROUP BY party) x"
            " JOIN party_agent m ON m.party = x.party JOIN label l ON l.id = m.agent GROUP BY m.agent"
        )
        for row in self._typed((str, int, float, float), sql):
            yield AgentSummary(*row)

    def participants(self, session: str) -> set[str]:
        """Who took part in a session on this day."""
        sql = (
            "SELECT agents FROM party WHERE id IN"
            " (SELECT party FROM entry WHERE session = (SELECT id FROM label WHERE text = ?))"
        )
        with nonsense_named(self.path):
            return {agent for (agents,) in self._all(sql, session) for agent in agents_of(agents)}

    # ---- how it is asked

    def _where(self, wanted: Filter, *, by_index: bool = True) -> tuple[str, list[Any]] | None:
        """A condition on `entry e`, and its values; None where a string is wanted that this day does not have."""
        terms: list[str] = []
        values: list[Any] = []
        for comparison, moment in ((">=", wanted.since), ("<", wanted.until), (">", wanted.after)):
            if moment is not None:
                terms.append(f"e.timestamp {comparison} ?")
                values.append(moment)
        if wanted.pending:
            terms.append("e.requests_response = 1 AND e.has_response = 0")
        # A conversation without a name of its own is its session, and is not in the conversations' index.
        conversation = (
            "e.id IN (SELECT id FROM entry WHERE conversation = ?1 AND conversation <> session UNION ALL"
            " SELECT id FROM entry WHERE session = ?1 AND conversation = session)"
        )
        texts = {
            "e.session = ?": wanted.session,
            "e.event_type = ?": wanted.event_type,
            "e.pattern = ?": wanted.pattern,
            "e.correlation = ?": wanted.correlation,
            "e.party IN (SELECT party FROM party_agent WHERE agent = ?)": wanted.agent,
            conversation if by_index else "e.conversation = ?": wanted.conversation,
        }
        for term, text in texts.items():
            if text is None:
                continue
            number = self._label(text)
            if number is None:
                return None
            terms.append(term.replace("?1", str(number)))
            if "?1" not in term:
                values.append(number)
        return " AND ".join(terms) or "1", values

    def _label(self, text: str) -> int | None:
        rows = self._all("SELECT id FROM label WHERE text = ?", text)
        return int(rows[0][0]) if rows else None

    def _entries(self, where: str, values: list[Any], size: int, reverse: bool) -> list[Entry]:
        way = " DESC" if reverse else ""
        # Chosen and cut first, named afterwards: names cost a lookup each.
        chosen = (
            f"{_CHOSEN}{where} ORDER BY e.timestamp{way}, {_PATH}{way}, e.byte_offset{way} LIMIT ?"
        )
        order = f"e.timestamp{way}, e.path{way}, e.byte_offset{way}"
        rows = self._all(_NAMED.format(chosen=chosen, order=order), *values, size)
        with nonsense_named(self.path):
            return [entry_of(row) for row in rows]


class Catalog(_Opened):
    """The catalog, open for reading."""

    kind = CATALOG

    def sessions(self, status: str | None) -> Iterator[Session]:
        """The session registry."""
        sql = (
            "SELECT session_id, initiating_agent, created_at, pattern_type, status FROM session_registry"
            " WHERE ? IS NULL OR status = ? ORDER BY created_at, session_id"
        )
        return (Session(*row) for row in self._typed((str, str, float, str, str), sql, status, status))

    def rejected(self) -> Iterator[RejectedLine]:
        """Lines that are no records."""
        sql = "SELECT source, line_number, byte_offset, length, reason FROM rejected ORDER BY source, byte_offset"
        return (RejectedLine(*row) for row in self._typed((str, int, int, int, str), sql))

    def sources(self) -> list[tuple[Any, ...]]:
        """Path, offset, bytes indexed, blank, rejected and skipped, and entries of each source."""
        sql = "SELECT path, offset, indexed, blank, rejected, skipped, entries FROM source ORDER BY path"
        return self._typed((str, int, int, int, int, int, int), sql)

    def looked(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of each source when it was last looked at."""
        rows = self._typed((str, int, int), "SELECT path, size, mtime_ns FROM source")
        return {path: (size, mtime_ns) for path, size, mtime_ns in rows}

    def count_rejected(self) -> int:
        """How many lines are no records."""
        return int(self._all("SELECT COUNT(*) FROM rejected_line")[0][0])

    def days(self) -> list[tuple[Any, ...]]:
        """Each day with its first and last timestamp and its number of entries."""
        sql = "SELECT day, first_timestamp, last_timestamp, entries FROM day ORDER BY day"
        return self._typed((str, float, float, int), sql)

    def checkpoints(self) -> dict[str, int]:
        """The number of the checkpoint that last wrote each day."""
        return dict(self._typed((str, int), "SELECT day, checkpoint FROM day"))

    def fact(self, key: str) -> str | None:
        """What was noted under a key."""
        rows = self._all("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def offsets(self) -> dict[str, tuple[int, bool]]:
        """How far each source was read, and whether its file is there."""
        sql = "SELECT path, offset, status <> 'missing' FROM source"
        return {path: (offset, bool(there)) for path, offset, there in self._typed((str, int, int), sql)}

    def first_mtimes(self) -> dict[str, float]:
        """The notes of section 6: each source's modification time when it was first seen."""
        sql = "SELECT path, first_mtime FROM source WHERE first_mtime IS NOT NULL"
        return dict(self._typed((str, float), sql))


def open_catalog(folder: Path) -> Catalog:
    """The catalog of the index in `folder`. A swap may move it between the look and the opening: then once more."""
    try:
        return Catalog(swap.catalog_path(folder))
    except IndexMissing:
        return Catalog(swap.catalog_path(folder))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
