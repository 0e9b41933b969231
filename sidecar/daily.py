"""One daily file, open for writing: rows in, each string, file and party written once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from .linking import Request
from .paths import split_path
from .records import Answered, Row
from .schema import DAILY, create, finish, inodes, settle

_EPOCH = date(1970, 1, 1).toordinal()

CACHED = 20_000
"""Strings whose number is remembered for a file; beyond, they are looked up again. Sixteen files may be open."""

CACHED_CHARACTERS = 4 << 20
"""Characters in them, and agents in the parties that are remembered: a log may name what it likes."""

_ENTRY = (
    "INSERT OR REPLACE INTO entry (id, source, line_number, byte_offset, byte_length, checksum, timestamp, event_type,"
    " session, author, initiating_agent, party, pattern, conversation, correlation, is_completion, is_request,"
    f" has_response, requests_response) VALUES ({', '.join('?' * 19)})"
)
_PLACE = (
    "source = (SELECT s.id FROM source s JOIN label f ON f.id = s.folder"
    " WHERE f.text = ? AND s.stem = ? AND s.suffix = ?)"
)


def day_name(day: int) -> str:
    """`YYYY-MM-DD`, from days since 1970."""
    return date.fromordinal(_EPOCH + day).isoformat()


def day_number(name: str) -> int:
    """Days since 1970, from `YYYY-MM-DD`; raises ValueError for anything else."""
    return date.fromisoformat(name).toordinal() - _EPOCH


class DailyFile:
    """The writer of one day. It owns its connection; only the indexing thread touches it."""

    def __init__(self, path: Path, *, bulk: bool = False) -> None:
        self.path = path
        self.day = day_number(path.stem)
        self._bulk = bulk
        self._database = create(path, DAILY, indexes=not bulk)
        self.inodes = inodes(path)
        self._labels: dict[str, int] = {}
        self._parties: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], int] = {}
        self._sources: dict[str, list[int]] = {}
        """Path to number and `touched`."""
        self._new_labels: list[tuple[int, str]] = []
        self._new_parties: list[tuple[int, str, str]] = []
        self._new_members: list[tuple[int, int]] = []
        """Given a number, and to be written with the next rows; the caches know them till then."""
        self._late: list[tuple[str, Answered]] = []
        """In a bulk load: answers whose request was written before, applied when there is an index to find it by."""
        self._held = 0
        """Characters and agents in both caches."""
        self._next_label = self._following("label")
        self._next_source = self._following("source")
        self._next_party = self._following("party")
        floor = self._one("SELECT value FROM meta WHERE key = 'next_entry'")
        self._next_entry = max(self._following("entry"), int(floor[0]) if floor else 1)
        if self._one("SELECT 1 FROM meta WHERE key = 'day'") is None:
            self._note("day", path.stem)
        self.is_dirty = False
        """Has committed rows that were not made durable."""

    # ---- writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. After an error the numbers handed out are void: close this writer and open another."""
        with self._database.atomic("IMMEDIATE"):
            yield
        self.is_dirty = True

    def write(self, path: str, rows: Iterable[Row], answered: dict[int, Answered], touched: int) -> None:
        """Add rows of one log file, and mark requests answered; within a transaction, rows before their answers.

        `answered` is by the request's byte offset. The same rows written again replace themselves.
        """
        source = self._source(path, touched)
        values = [self._encode(source, row, answered) for row in rows]
        self._flush()
        self._database.connection().executemany(_ENTRY, values)
        if self._bulk:
            self._late.extend((path, answer) for answer in answered.values())
        else:
            self._mark_answered(source, answered.values())

    def _encode(self, source: int, row: Row, answered: dict[int, Answered]) -> tuple[object, ...]:
        # Taken apart by position, which costs a third of asking for nineteen names. fmt: off
        (_, line_number, byte_offset, byte_length, checksum, timestamp, event_type, session, author, initiator, agents,
         roles, pattern, conversation, correlation, is_completion, is_request, has_response, wants) = row
        # fmt: on
        if is_request and (answer := answered.pop(byte_offset, None)):
            correlation, has_response = answer.correlation_id, True
        label, labels = self._label, self._labels
        number = self._next_entry
        self._next_entry = number + 1
        return (
            number,
            source,
            line_number,
            byte_offset,
            byte_length,
            checksum,
            timestamp,
            labels.get(event_type) or label(event_type),
            labels.get(session) or label(session),
            None if author is None else labels.get(author) or label(author),
            labels.get(initiator) or label(initiator),
            self._parties.get((agents, roles)) or self._party(agents, roles),
            labels.get(pattern) or label(pattern),
            labels.get(conversation) or label(conversation),
            None if correlation is None else labels.get(correlation) or label(correlation),
            is_completion,
            is_request,
            has_response,
            wants,
        )

    def _mark_answered(self, source: int, answered: Iterable[Answered]) -> None:
        updates = [
            (None if one.correlation_id is None else self._label(one.correlation_id), source, one.byte_offset)
            for one in answered
        ]
        self._flush()
        self._database.connection().executemany(
            "UPDATE entry SET has_response = 1, correlation = ? WHERE source = ? AND byte_offset = ?", updates
        )

    def _label(self, text: str) -> int:
        """The number of a string, new or known."""
        number = self._labels.get(text)
        if number is None:
            found = None if self._bulk else self._one("SELECT id FROM label WHERE text = ?", text)
            if found:
                number = int(found[0])
            else:
                number = self._next_label
                self._next_label += 1
                self._new_labels.append((number, text))
            self._labels[text] = number
            self._held += len(text)
        return number

    def _flush(self) -> None:
        """Write what was given a number since the last time."""
        run = self._database.connection().executemany
        run("INSERT INTO label (id, text) VALUES (?, ?)", self._new_labels)
        run("INSERT INTO party (id, agents, roles) VALUES (?, ?, ?)", self._new_parties)
        run("INSERT INTO party_agent (agent, party) VALUES (?, ?)", self._new_members)
        self._new_labels, self._new_parties, self._new_members = [], [], []
        if (len(self._labels) > CACHED or self._held > CACHED_CHARACTERS) and not self._bulk:
            self._labels.clear()
            self._parties.clear()
            self._held = 0

    def _source(self, path: str, touched: int) -> int:
        known = self._sources.get(path)
        if known is None:
            folder_name, stem, suffix = split_path(path)
            folder = self._label(folder_name)
            row = None
            if not self._bulk:
                row = self._one(
                    "SELECT id, touched FROM source WHERE stem = ? AND folder = ? AND suffix = ?", stem, folder, suffix
                )
            if row:
                known = [int(row[0]), int(row[1])]
            else:
                known = [self._next_source, touched]
                self._next_source += 1
                self._database.execute_sql(
                    "INSERT INTO source (id, folder, stem, suffix, touched) VALUES (?, ?, ?, ?, ?)",
                    (known[0], folder, stem, suffix, touched),
                )
            if len(self._sources) > CACHED and not self._bulk:
                self._sources.clear()
            self._sources[path] = known
        if known[1] != touched:
            self._database.execute_sql("UPDATE source SET touched = ? WHERE id = ?", (touched, known[0]))
            known[1] = touched
        return known[0]

    def _party(self, agents: tuple[str, ...], roles: tuple[tuple[str, str], ...]) -> int:
        texts = (orjson.dumps(agents).decode(), orjson.dumps(dict(roles)).decode())
        found = None if self._bulk else self._one("SELECT id FROM party WHERE agents = ? AND roles = ?", *texts)
        if found:
            number = int(found[0])
        else:
            number = self._next_party
            self._next_party += 1
            self._new_parties.append((number, *texts))
            self._new_members += [(self._label(agent), number) for agent in agents]
        self._parties[agents, roles] = number
        self._held += 8 * len(agents)
        return number

    # ---- taking back

    def forget(self, path: str, offset: int = 0, reopened: Iterable[Request] = ()) -> None:
        """Drop the rows of one log file from `offset` on, and let the requests in `reopened` wait again."""
        place = split_path(path)
        with self.transaction():
            self._database.execute_sql("INSERT OR REPLACE INTO meta VALUES ('next_entry', ?)", (str(self._next_entry),))
            gone = f"entry WHERE {_PLACE} AND byte_offset >= ?"
            parties = self._database.execute_sql(f"SELECT DISTINCT party FROM {gone}", (*place, offset)).fetchall()
            self._database.execute_sql(f"DELETE FROM {gone}", (*place, offset))
            answered = {
                row[0]
                for row in self._database.execute_sql(
                    f"SELECT byte_offset FROM entry WHERE {_PLACE} AND has_response = 1", place
                )
            }
            for request in reopened:
                if request.byte_offset not in answered:
                    continue
                correlation = None if request.correlation is None else self._label(request.correlation)
                self._flush()
                self._database.execute_sql(
                    f"UPDATE entry SET has_response = 0, correlation = ? WHERE {_PLACE} AND byte_offset = ?",
                    (correlation, *place, request.byte_offset),
                )
            for (party,) in parties:
                self._forget_party(party)
        self._parties.clear()

    def _forget_party(self, party: int) -> None:
        """Drop a party that no entry has any more, or its agents would have been there and nowhere."""
        agents = self._one(
            "SELECT agents FROM party p WHERE id = ? AND NOT EXISTS (SELECT 1 FROM entry WHERE party = p.id)", party
        )
        if agents:
            self._database.execute_sql("DELETE FROM party WHERE id = ?", (party,))
            self._database.connection().executemany(
                "DELETE FROM party_agent WHERE party = ? AND agent = (SELECT id FROM label WHERE text = ?)",
                [(party, agent) for agent in orjson.loads(agents[0])],
            )

    def touched_after(self, checkpoint: int) -> list[str]:
        """Paths of the log files of which something was written that no checkpoint covers."""
        return [
            str(row[0])
            for row in self._database.execute_sql(
                "SELECT f.text || s.stem || s.suffix FROM source s JOIN label f ON f.id = s.folder WHERE touched > ?",
                (checkpoint,),
            )
        ]

    def has(self, path: str) -> bool:
        """Whether this day has rows of a log file."""
        place = split_path(path)
        return self._one(f"SELECT 1 FROM entry WHERE {_PLACE} LIMIT 1", *place) is not None

    # ---- asked by the indexer

    def requests(self, path: str, offsets: Iterable[int]) -> Iterator[Request]:
        """Answered requests of a log file, as far as a later answer needs to know them."""
        place = split_path(path)
        for offset in offsets:
            row = self._one(
                "SELECT r.text, w.text, a.text, c.text FROM entry e"
                " LEFT JOIN label r ON r.id = e.correlation LEFT JOIN label w ON w.id = e.author"
                " JOIN label a ON a.id = e.pattern JOIN label c ON c.id = e.conversation"
                f" WHERE e.{_PLACE} AND e.byte_offset = ?",
                *place,
                offset,
            )
            if row:
                correlation, author, pattern, conversation = (None if text is None else str(text) for text in row)
                assert pattern is not None and conversation is not None
                yield Request(offset, self.day, correlation, author, (), pattern, conversation, expects=False)

    def summary(self) -> tuple[float, float, int]:
        """First and last timestamp, and how many entries; zeros for none."""
        row = self._one("SELECT MIN(timestamp), MAX(timestamp), (SELECT COUNT(*) FROM entry) FROM entry")
        assert row is not None
        return float(row[0] or 0), float(row[1] or 0), int(row[2])

    # ---- durable, closed

    def make_durable(self, checkpoint: int | None = None) -> None:
        """Return once all that was committed would survive a power cut; `checkpoint` is what says so afterwards.

        A commit with `synchronous` at FULL syncs the write-ahead log, and with it every commit before.
        """
        self._database.execute_sql("PRAGMA synchronous = FULL")
        with self._database.atomic("IMMEDIATE"):
            self._note("next_entry", str(self._next_entry))
            if checkpoint is not None:
                self._note("checkpoint", str(checkpoint))
        self._database.execute_sql("PRAGMA synchronous = NORMAL")
        self.is_dirty = False

    def finish_bulk(self) -> None:
        """End a bulk load: make the indexes, then apply the answers that had to wait for them."""
        if not self._bulk:
            return
        finish(self._database)
        self._bulk = False
        with self.transaction():
            for path, answer in self._late:
                self._mark_answered(self._source(path, 0), [answer])
        self._late = []

    def close(self) -> None:
        """Close the file, as one that a reader can open anywhere."""
        self.finish_bulk()
        settle(self._database)

    def _note(self, key: str, value: str) -> None:
        self._database.execute_sql("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _following(self, table: str) -> int:
        row = self._one(f"SELECT COALESCE(MAX(id), 0) + 1 FROM {table}")
        assert row is not None
        return int(row[0])

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._database.execute_sql(sql, values).fetchone()
        return row
