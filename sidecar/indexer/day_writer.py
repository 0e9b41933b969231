"""One daily file, open for writing: rows in, answers marked, and what was written taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from sidecar.fs import split_path
from sidecar.guarded import GuardedFolder
from sidecar.ingest.linking import Request
from sidecar.records import Answered, Row
from sidecar.store.connection import DAILY, count_entries, create, first_and_last
from sidecar.store.daily_schema import AT_PLACE, SPAN_IDS
from sidecar.times import day_number

from .dictionary import Dictionary
from .segment import attached, copy_segment
from .tamper import FileState, TamperGuard

MAX_CACHED = 20_000
"""Strings and combinations whose number is remembered for a file, fewer where they are long; beyond, they are looked up
again. Sixteen files may be open."""
_AT_PLACE = AT_PLACE.format(span=SPAN_IDS, source="?1", offset="?2")
_MARK_ANSWERED = f"UPDATE entry SET has_response = 1, correlation = ?3, answered_after = ?4 WHERE id = ({_AT_PLACE})"
_OPEN_AGAIN = (
    "UPDATE entry SET has_response = 0, correlation = ?3, answered_after = NULL"
    f" WHERE has_response = 1 AND id = ({_AT_PLACE})"
)
STATE = (
    "SELECT (SELECT COALESCE(MAX(touched), 0) FROM source), (SELECT COUNT(*) FROM entry),"
    " (SELECT COALESCE(MAX(id), 0) FROM entry)"
)
_REQUEST = (
    "SELECT r.text, IIF(k.has_author, json_extract(p.agents, '$[0]'), NULL), a.text, v.text, e.timestamp,"
    " e.answered_after FROM entry e"
    " LEFT JOIN correlation r ON r.id = e.correlation JOIN kind k ON k.id = e.kind JOIN name a ON a.id = k.pattern"
    " JOIN party p ON p.id = e.party JOIN context c ON c.id = e.context JOIN name v ON v.id = c.conversation"
    f" WHERE e.id = ({_AT_PLACE})"
)


class DayWriter:
    """The writer of one day. It owns its connection; only the indexing thread touches it."""

    def __init__(self, folder: GuardedFolder, name: str) -> None:
        self.path = folder.path / name
        self.day = day_number(self.path.stem)
        self._database = create(folder, name, DAILY)
        self._seal = TamperGuard(self._database, self.path)
        self._codes = Dictionary(self._database)
        floor = self._one("SELECT value FROM meta WHERE key = 'next_entry'")
        self._codes.begin_at(int(floor[0]) if floor else 1)
        self.is_dirty = False
        """Has committed rows that were not made durable."""
        self._entries: int | None = None
        """How many there are; None until somebody asks, because counting looks at each."""

    # ---- writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. After an error the numbers handed out are void: close this writer and open another."""
        with self._seal.writing():
            yield
            self._codes.flush()
        self.is_dirty = True

    def write(self, path: str, rows: list[Row], answered: dict[int, Answered], touched: int) -> None:
        """Add rows of one log file, and mark requests answered; within a transaction, rows before their answers.

        `answered` is by the request's byte offset. Rows of a file come in the order of its bytes.
        """
        self._codes.insert(path, rows, answered, touched)
        if self._entries is not None:
            self._entries += len(rows)
        if answered:
            source = self._codes.place(path, touched).number
            updates = self._codes.answers(source, answered.values())
            self._codes.flush()
            self._database.connection().executemany(_MARK_ANSWERED, updates)
        if self._codes.remembered > MAX_CACHED:
            self._codes.forget()

    def copy_segment(self, segments: GuardedFolder, part: str, touched: int) -> None:
        """Add the rows of a part of this day, of log files that have no rows here, in one transaction."""
        next_entry = self._codes.next_entry
        with attached(self._database, segments, part), self.transaction():
            rows = copy_segment(self._database, touched, next_entry - 1)
        self._codes = Dictionary(self._database)  # the highest numbers are others now
        self._codes.begin_at(next_entry)
        if self._entries is not None:
            self._entries += rows

    # ---- taking back

    def delete_rows(self, path: str, offset: int = 0, reopened: Iterable[Request] = ()) -> None:
        """Drop the rows of one log file from `offset` on, and let the requests in `reopened` wait again."""
        run: Callable[..., Any] = self._database.execute_sql
        source = self._source(path)
        if source is None:
            return
        with self.transaction():
            run("INSERT OR REPLACE INTO meta VALUES ('next_entry', ?)", (str(self._codes.next_entry),))
            # The span that `offset` lies in keeps what comes before it.
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
                correlation = None if request.correlation is None else self._codes.correlation(request.correlation)
                self._codes.flush()
                run(_OPEN_AGAIN, (source, request.byte_offset, correlation))
            for party in parties:
                self._forget_party(party)
        self._codes.forget()
        self._entries = None

    def _forget_party(self, party: int) -> None:
        """Drop a party that no entry has any more, or its agents would have been there and nowhere."""
        agents = self._one(
            "SELECT agents FROM party p WHERE id = ? AND NOT EXISTS (SELECT 1 FROM entry WHERE party = p.id)", party
        )
        if agents:
            self._database.execute_sql("DELETE FROM party WHERE id = ?", (party,))
            self._database.connection().executemany(
                "DELETE FROM party_agent WHERE party = ? AND agent = ?",
                [(party, self._codes.name(agent)) for agent in orjson.loads(agents[0])],
            )

    def touched_after(self, checkpoint: int) -> list[str]:
        """Paths of the log files of which something was written that no checkpoint covers."""
        return [
            str(row[0])
            for row in self._database.execute_sql(
                "SELECT f.text || s.stem || s.suffix FROM source s JOIN name f ON f.id = s.folder WHERE touched > ?",
                (checkpoint,),
            )
        ]

    def knows(self, path: str) -> bool:
        """Whether this day has, or ever had, rows of a log file."""
        return self._source(path) is not None

    def _source(self, path: str) -> int | None:
        folder, stem, suffix = split_path(path)
        sql = (
            "SELECT s.id FROM source s JOIN name f ON f.id = s.folder WHERE f.text = ? AND s.stem = ? AND s.suffix = ?"
        )
        row = self._one(sql, folder, stem, suffix)
        return None if row is None else int(row[0])

    # ---- asked by the indexer

    def requests(self, path: str, offsets: Iterable[int]) -> Iterator[Request]:
        """Answered requests of a log file, as far as a later answer needs to know them."""
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
        """First and last timestamp, and how many entries; zeros for none."""
        if self._entries is None:
            self._entries = count_entries(self._database)
        return (*first_and_last(self._database), self._entries)

    def state(self) -> tuple[int, int, int]:
        """The last checkpoint that covers anything here, entries, and the number of the last."""
        row = self._one(STATE)
        assert row is not None
        return int(row[0]), int(row[1]), int(row[2])

    # ---- durable, closed

    def check(self) -> None:
        """Raise IndexDamaged where this is no longer the file of its name, or somebody else has written to it."""
        self._seal.check()

    def make_durable(self, checkpoint: int | None = None) -> None:
        """Return once all that was committed would survive a power cut; `checkpoint` is what says so afterwards.

        A commit with `synchronous` at FULL syncs the write-ahead log, and with it every commit before.
        """
        self._database.execute_sql("PRAGMA synchronous = FULL")
        with self._seal.writing():
            self._note("next_entry", str(self._codes.next_entry))
            if checkpoint is not None:
                self._note("checkpoint", str(checkpoint))
        self._database.execute_sql("PRAGMA synchronous = NORMAL")
        self.is_dirty = False

    def close(self) -> FileState | None:
        """Close the file, as one that a reader can open anywhere; says how it was left. Raises IndexDamaged."""
        return self._seal.close()

    def _note(self, key: str, value: str) -> None:
        self._database.execute_sql("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._database.execute_sql(sql, values).fetchone()
        return row
