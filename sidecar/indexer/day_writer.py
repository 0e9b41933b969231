"""One daily file, open for writing: add rows, mark requests as answered, and delete rows again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from sidecar.fs import split_path
from sidecar.guarded import GuardedFolder
from sidecar.ingest.linking import Request
from sidecar.records import Answered, LogName, Row
from sidecar.store.connection import DAILY, count_entries, create, first_and_last
from sidecar.store.daily_schema import AT_PLACE, SPAN_IDS
from sidecar.times import day_number

from .across import Mark
from .dictionary import Dictionary
from .segment import attached, copy_segment
from .tamper import FileState, TamperGuard

MAX_CACHED = 20_000
"""For how many strings and combinations of a file the numbers are remembered, or fewer if they are long. Beyond that,
all are forgotten and looked up again. There is such a cache for each open file (`day_files.MAX_OPEN_DAYS`)."""
_AT_PLACE = AT_PLACE.format(span=SPAN_IDS, source="?1", offset="?2")
_MARK_ANSWERED = f"UPDATE entry SET has_response = 1, correlation = ?3, answered_after = ?4 WHERE id = ({_AT_PLACE})"
_REOPEN = (
    "UPDATE entry SET has_response = 0, correlation = ?3, answered_after = NULL"
    f" WHERE has_response = 1 AND id = ({_AT_PLACE})"
)
_MARK = f"UPDATE entry SET has_response = ?3 WHERE answered_after IS NULL AND id = ({_AT_PLACE})"
_IS_MARKED = f"SELECT has_response FROM entry WHERE answered_after IS NULL AND id = ({_AT_PLACE})"
STATE = (
    "SELECT (SELECT COALESCE(MAX(touched), 0) FROM source), (SELECT COUNT(*) FROM entry),"
    " (SELECT COALESCE(MAX(id), 0) FROM entry)"
)
"""Selects what `DayWriter.state` returns."""
_REQUEST = (
    "SELECT r.text, IIF(k.has_author, json_extract(p.agents, '$[0]'), NULL), a.text, v.text, e.timestamp,"
    " e.answered_after FROM entry e"
    " LEFT JOIN correlation r ON r.id = e.correlation JOIN kind k ON k.id = e.kind JOIN name a ON a.id = k.pattern"
    " JOIN party p ON p.id = e.party JOIN context c ON c.id = e.context JOIN name v ON v.id = c.conversation"
    f" WHERE e.id = ({_AT_PLACE})"
)


class DayWriter:
    """The writer of one day. It owns its connection; only the indexing thread uses it."""

    def __init__(self, folder: GuardedFolder, name: str) -> None:
        """Open the daily file `name` in a folder, or create it. Raises IndexDamaged, SchemaMismatch, OSError, or what
        SQLite raises."""
        self.path = folder.path / name
        self.day = day_number(self.path.stem)
        self._database = create(folder, name, DAILY)
        self._guard = TamperGuard(self._database, self.path)
        self._dictionary = Dictionary(self._database)
        floor = self._one("SELECT value FROM meta WHERE key = 'next_entry'")
        self._dictionary.begin_at(int(floor[0]) if floor else 1)
        self.is_dirty = False
        """Whether anything was committed that has not been made durable."""
        self._entries: int | None = None
        """The number of entries; None until it is needed, because counting reads a whole index."""

    # ---- writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction for the `with` block. After an error the numbers that were handed out are void: close this
        writer and open another."""
        with self._guard.writing():
            yield
            self._dictionary.flush()
        self.is_dirty = True

    def write(self, log: LogName, rows: list[Row], answered: dict[int, Answered], touched: int) -> None:
        """Add rows of one log, in the order of its bytes, and mark requests as answered. To be called within a
        `transaction`.

        `answered` is keyed by the request's byte offset; requests among `rows` are removed from it. `touched` is the
        number of the checkpoint that will cover all this.
        """
        self._dictionary.insert(log, rows, answered, touched)
        if self._entries is not None:
            self._entries += len(rows)
        if answered:
            source = self._dictionary.place(log, touched).number
            updates = self._dictionary.answers(source, answered.values())
            self._dictionary.flush()
            self._database.connection().executemany(_MARK_ANSWERED, updates)
        if self._dictionary.remembered > MAX_CACHED:
            self._dictionary.forget()

    def copy_segment(self, segments: GuardedFolder, segment: str, touched: int) -> None:
        """Add the rows of a segment of this day, in one transaction. Its logs have no rows here but from their earlier
        segments. `touched` is as in `write`."""
        next_entry = self._dictionary.next_entry
        with attached(self._database, segments, segment), self.transaction():
            rows = copy_segment(self._database, touched, next_entry - 1)
        # The copy has taken numbers that the old one does not know of.
        self._dictionary = Dictionary(self._database)
        self._dictionary.begin_at(next_entry)
        if self._entries is not None:
            self._entries += rows

    def unmarked(self, marks: Iterable[Mark]) -> list[Mark]:
        """Those of some marks that are not in the rows of their requests. Requests that were answered in their own log
        are left out."""
        found = []
        for mark in marks:
            source = self._source(mark.path)
            row = None if source is None else self._one(_IS_MARKED, source, mark.byte_offset)
            if row is not None and bool(row[0]) != mark.is_answered:
                found.append(mark)
        return found

    def mark(self, marks: Iterable[Mark], touched: int) -> None:
        """Write whether open requests have an answer in another log, in one transaction. `touched` is as in `write`."""
        with self.transaction():
            for mark in marks:
                source = self._source(mark.path)
                self._database.execute_sql(_MARK, (source, mark.byte_offset, mark.is_answered))
                self._database.execute_sql("UPDATE source SET touched = ? WHERE id = ?", (touched, source))

    # ---- taking back

    def delete_rows(self, path: str, offset: int = 0, reopened: Iterable[Request] = ()) -> None:
        """Delete the rows of one log from the byte `offset` on, and mark the requests in `reopened` as not answered.
        Within a transaction, or else in one of its own."""
        run: Callable[..., Any] = self._database.execute_sql
        source = self._source(path)
        if source is None:
            return
        with self.transaction():
            run("INSERT OR REPLACE INTO meta VALUES ('next_entry', ?)", (str(self._dictionary.next_entry),))
            # Of the offset range that `offset` is in, only the entries from there on are deleted.
            spans = run(
                "SELECT first FROM span WHERE source = ?1 AND byte_offset >="
                " COALESCE((SELECT MAX(byte_offset) FROM span WHERE source = ?1 AND byte_offset <= ?2), 0)",
                (source, offset),
            ).fetchall()
            parties: set[int] = set()
            for (first,) in spans:
                gone = "entry WHERE id >= ? AND id < ? AND source = ? AND byte_offset >= ?"
                values = (first, first + SPAN_IDS, source, offset)
                parties |= {party for (party,) in run(f"SELECT DISTINCT party FROM {gone}", values)}
                run(f"DELETE FROM {gone}", values)
            run("DELETE FROM span WHERE source = ? AND byte_offset >= ?", (source, offset))
            for request in reopened:
                correlation = None if request.correlation is None else self._dictionary.correlation(request.correlation)
                self._dictionary.flush()
                run(_REOPEN, (source, request.byte_offset, correlation))
            for party in parties:
                self._delete_if_unused(party)
        self._dictionary.forget()
        self._entries = None

    def _delete_if_unused(self, party: int) -> None:
        """Delete a list of participants that no entry has any more."""
        agents = self._one(
            "SELECT agents FROM party p WHERE id = ? AND NOT EXISTS (SELECT 1 FROM entry WHERE party = p.id)", party
        )
        if agents:
            self._database.execute_sql("DELETE FROM party WHERE id = ?", (party,))
            self._database.connection().executemany(
                "DELETE FROM party_agent WHERE party = ? AND agent = ?",
                [(party, self._dictionary.name(agent)) for agent in orjson.loads(agents[0])],
            )

    def move(self, moved: list[tuple[str, LogName]], token: str) -> bool:
        """Rename logs, all in one transaction. Returns whether there was anything to do: not if the move with this
        token is done already. `moved` has the old paths, each with the new name."""
        run: Callable[..., Any] = self._database.execute_sql
        numbers = [(number, log) for old, log in moved if (number := self._source(old)) is not None]
        done = self._one("SELECT value FROM meta WHERE key = 'moved'")
        if not numbers or (done and done[0] == token):
            return False
        with self.transaction():
            # All out of the way first, because a new name may be the old one of another log.
            for number, _ in numbers:
                run("UPDATE source SET suffix = suffix || '/' || id WHERE id = ?", (number,))
            for number, log in numbers:
                stale = self._source(log.path)
                # The row of a log whose entries are gone.
                if stale is not None:
                    run("DELETE FROM source WHERE id = ?", (stale,))
                folder, stem, suffix = split_path(log.path)
                name = self._dictionary.name(folder)
                self._dictionary.flush()
                session = None if log.ids_begin == stem else log.ids_begin
                run(
                    "UPDATE source SET folder = ?, stem = ?, suffix = ?, session = ? WHERE id = ?",
                    (name, stem, suffix, session, number),
                )
            self._note("moved", token)
        self._dictionary.forget()
        return True

    def touched_after(self, checkpoint: int) -> list[str]:
        """Paths of the logs of which something was written that only a later checkpoint covers."""
        return [
            str(row[0])
            for row in self._database.execute_sql(
                "SELECT f.text || s.stem || s.suffix FROM source s JOIN name f ON f.id = s.folder WHERE touched > ?",
                (checkpoint,),
            )
        ]

    def knows(self, path: str) -> bool:
        """Whether this day has, or ever had, rows of a log."""
        return self._source(path) is not None

    def _source(self, path: str) -> int | None:
        folder, stem, suffix = split_path(path)
        sql = (
            "SELECT s.id FROM source s JOIN name f ON f.id = s.folder WHERE f.text = ? AND s.stem = ? AND s.suffix = ?"
        )
        row = self._one(sql, folder, stem, suffix)
        return None if row is None else int(row[0])

    # ---- reading

    def requests(self, path: str, offsets: Iterable[int]) -> Iterator[Request]:
        """The answered requests of a log at these byte offsets, with what a later answer needs to know of them: the
        addressees are left out. Offsets without an entry are skipped."""
        source = self._source(path)
        for offset in offsets:
            row = None if source is None else self._one(_REQUEST, source, offset)
            if row:
                correlation, author, pattern, conversation, timestamp, answered_after = row
                yield Request(
                    *(offset, self.day, correlation, author, (), pattern, conversation),
                    expects=False,
                    timestamp=timestamp,
                    answered_after=answered_after,
                )

    def summary(self) -> tuple[float, float, int]:
        """First and last timestamp, and the number of entries; zeros if there are none."""
        if self._entries is None:
            self._entries = count_entries(self._database)
        return (*first_and_last(self._database), self._entries)

    def state(self) -> tuple[int, int, int]:
        """The highest number of a checkpoint in `touched`, the number of entries, and the highest id of an entry."""
        row = self._one(STATE)
        assert row is not None
        return int(row[0]), int(row[1]), int(row[2])

    # ---- checking, syncing, closing

    def check(self) -> None:
        """Raise IndexDamaged if another process has deleted, replaced or written to the file."""
        self._guard.check()

    def make_durable(self, checkpoint: int | None = None) -> None:
        """Sync everything that was committed, so that it survives a power cut. `checkpoint`, if given, is the number of
        the checkpoint that this is for, and is noted in the file. Raises IndexDamaged, or what SQLite raises.

        It makes a commit with `synchronous` at FULL, which syncs the write-ahead log, and with it every commit before.
        """
        self._database.execute_sql("PRAGMA synchronous = FULL")
        with self._guard.writing():
            self._note("next_entry", str(self._dictionary.next_entry))
            if checkpoint is not None:
                self._note("checkpoint", str(checkpoint))
        self._database.execute_sql("PRAGMA synchronous = NORMAL")
        self.is_dirty = False

    def close(self) -> FileState | None:
        """Close the file, so that it can be read even in a read-only folder. Returns how it was left; None if it was
        closed already. Raises IndexDamaged; it is closed nevertheless."""
        return self._guard.close()

    def _note(self, key: str, value: str) -> None:
        self._database.execute_sql("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._database.execute_sql(sql, values).fetchone()
        return row
