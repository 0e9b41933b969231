"""The catalog: how far each log was read, what its next row depends on, and what is derived once for all days.

Every change is one synced transaction, made after the daily files are durable, so that a saved offset is never ahead of
its rows (P4). A checkpoint costs as much as what changed: open requests and roles are rows that come and go. Of
answered requests, which are few, only the positions are kept; their content is in the daily files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import orjson

from sidecar.config.settings import Source
from sidecar.ingest.linking import Request
from sidecar.ingest.source import Counts, SourceState
from sidecar.logs.tail import Cursor
from sidecar.records import Extent, Move, archived_size
from sidecar.store.codec import decode_state
from sidecar.store.connection import CATALOG, create
from sidecar.times import YEAR_10000, day_name

from .known_files import KnownFile
from .saved_source import SavedSource
from .tamper import FileState, TamperGuard

_SOURCE_COLUMNS = (
    "id, path, layout, stem, first_mtime, device, inode, size, mtime_ns, offset, lines, head, tail,"
    " indexed, blank, rejected, skipped, entries, status, state"
)
_SAVE_SOURCE = f"INSERT OR REPLACE INTO source ({_SOURCE_COLUMNS}) VALUES ({', '.join('?' * 20)})"
_HAS_SOURCE = "SELECT 1 FROM source WHERE path = ?"
_OPEN_COLUMNS = "byte_offset, day, correlation, author, addressees, pattern, conversation, expects"
_SAVE_SESSION = (
    "INSERT INTO session_part (session_id, source, initiating_agent, created_at, pattern_type, is_completed)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (session_id, source) DO UPDATE SET"
    " initiating_agent = IIF(initiating_agent = 'unknown', excluded.initiating_agent, initiating_agent),"
    " is_completed = MAX(is_completed, excluded.is_completed)"
)
_CLOSE = "DELETE FROM open_request WHERE source = ? AND byte_offset = ?"
_SAVE_OPEN = f"INSERT OR REPLACE INTO open_request (source, {_OPEN_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SAVE_REJECTED = (
    "INSERT OR REPLACE INTO rejected_line (source, line_number, byte_offset, byte_length, reason)"
    " VALUES (?, ?, ?, ?, ?)"
)
_SAVE_ROLE = "INSERT OR REPLACE INTO held_role (source, agent, role) VALUES (?, ?, ?)"
_GONE = (
    "UPDATE source SET status = IIF(offset <= (SELECT SUM(a.size) FROM archived a WHERE a.source = source.id),"
    " 'archived', 'missing') WHERE path = ?"
)
_RESET = (
    "offset = 0, lines = 0, indexed = 0, blank = 0, rejected = 0, skipped = 0, entries = 0, size = -1,"
    " status = 'resetting', state = NULL"
)
_ARCHIVED = (
    "SELECT f.name, a.at, a.size, a.lines, a.sign FROM archived a JOIN archive_file f ON f.id = a.file"
    " WHERE a.source = ? ORDER BY a.start"
)
_OF_A_SOURCE = ("open_request", "held_role", "session_part", "rejected_line")
DaySummary = tuple[int, tuple[float, float, int]]
"""A day, with its first and last timestamp and its entries."""


class CatalogWriter:
    """The catalog, open for writing. Only the indexing thread touches it."""

    def __init__(self, path: Path, *, bulk: bool = False) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._bulk = bulk
        self._database = create(path, CATALOG, bulk=bulk)
        self._seal = None if bulk else TamperGuard(self._database, path)
        if not bulk:
            self._database.execute_sql("PRAGMA synchronous = FULL")
        self.checkpoint = int(self.fact("checkpoint") or 0)
        """The number of the last checkpoint."""

    def check(self) -> None:
        """Raise IndexDamaged where this is no longer the file of its name, or somebody else has written to it."""
        if self._seal is not None:
            self._seal.check()

    def _transaction(self) -> AbstractContextManager[Any]:
        """Around whatever is written."""
        return self._database.atomic("IMMEDIATE") if self._seal is None else self._seal.writing()

    # ---- facts about the index

    def fact(self, key: str) -> str | None:
        """What was noted under a key: `config`, `build`, `checkpoint`."""
        row = self._database.execute_sql("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, key: str, value: str) -> None:
        """Keep a fact."""
        with self._transaction():
            self._database.execute_sql("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    # ---- sources

    def known(self) -> Iterator[tuple[str, KnownFile]]:
        """Every source that was ever seen, but for those that lie in the archive whole: they are no longer looked for.

        One that was not read to its end is given a size that no file has, so that it is looked at again: there may be
        whole lines in the rest, and an event file that does not parse waits for its time.
        """
        begin = "COALESCE((SELECT SUM(a.size) FROM archived a WHERE a.source = source.id), 0)"
        size = f"IIF(offset - {begin} < size OR lines = 0, -1, size)"
        columns = f"path, device, inode, {size}, mtime_ns, status = 'missing'"
        sql = f"SELECT {columns} FROM source WHERE status <> 'archived'"
        for path, *values in self._database.execute_sql(sql):
            if path.__class__ is not str or any(value.__class__ is not int for value in values):
                raise TypeError(f"{path!r} with {values}")
            yield path, KnownFile(*values)

    def has_archived(self) -> bool:
        """Whether anything lies in the archive."""
        return bool(self._database.execute_sql("SELECT EXISTS (SELECT 1 FROM archived)").fetchone()[0])

    def without(self, paths: Iterable[str]) -> list[str]:
        """Those of some paths that were never seen, nor archived."""
        return [path for path in paths if not self._database.execute_sql(_HAS_SOURCE, (path,)).fetchone()]

    def last_id(self) -> int:
        """The highest number of a source; 0 for none."""
        return int(self._database.execute_sql("SELECT COALESCE(MAX(id), 0) FROM source").fetchone()[0])

    def resetting(self) -> list[str]:
        """Sources whose old rows were being dropped when the sidecar was stopped."""
        return [str(row[0]) for row in self._database.execute_sql("SELECT path FROM source WHERE status = 'resetting'")]

    def load(
        self, path: str, source: Source, answered: Callable[[list[tuple[int, int]]], Iterable[Request]]
    ) -> SourceState | None:
        """A source as it was saved. `answered` gives the requests at some days and offsets of it."""
        sql = f"SELECT {_SOURCE_COLUMNS} FROM source WHERE path = ?"
        row = self._database.execute_sql(sql, (path,)).fetchone()
        if row is None:
            return None
        id_, _, _, _, first_mtime, *mark_and_counts, _, packed = row
        if any(value.__class__ is not int for value in mark_and_counts) or not 0 <= (first_mtime or 0.0) < YEAR_10000:
            raise TypeError(f"{mark_and_counts}, {first_mtime!r}")
        progress = SourceState(
            id_, path, source, first_mtime, Cursor(*mark_and_counts[:8]), Counts(*mark_and_counts[8:])
        )
        progress.archived = self._archived(id_)
        if packed is not None:
            saved = decode_state(packed)
            state = progress.state
            state.timestamp, state.owner = saved["timestamp"], saved["owner"]
            state.roles.update(self._roles(id_))
            places = [(day, offset) for day, offset in saved["answered"]]
            state.requests.restore(self._open_requests(id_), answered(places), saved["early"])
        return progress

    def saved(self, path: str) -> tuple[int, Iterable[Request]]:
        """How far a file was read, and the requests open there; (0, ()) for one that was never saved."""
        row = self._database.execute_sql("SELECT id, offset FROM source WHERE path = ?", (path,)).fetchone()
        return (0, ()) if row is None else (int(row[1]), self._open_requests(int(row[0])))

    def _open_requests(self, id_: int) -> Iterator[Request]:
        sql = f"SELECT {_OPEN_COLUMNS} FROM open_request WHERE source = ? ORDER BY byte_offset"
        for offset, day, correlation, author, addressees, *rest, expects in self._database.execute_sql(sql, (id_,)):
            pattern, conversation = rest
            to = tuple(orjson.loads(addressees))
            if any(agent.__class__ is not str for agent in to):
                raise TypeError(f"addressees {addressees!r}")
            yield Request(offset, day, correlation, author, to, pattern, conversation, bool(expects))

    def _roles(self, id_: int) -> Iterator[tuple[str, str]]:
        for agent, role in self._database.execute_sql("SELECT agent, role FROM held_role WHERE source = ?", (id_,)):
            if agent.__class__ is not str or role.__class__ is not str:
                raise TypeError(f"the role {role!r} of {agent!r}")
            yield agent, role

    # ---- saving

    def save(self, sources: Iterable[SavedSource], days: Iterable[DaySummary], missing: Iterable[str] = ()) -> None:
        """One checkpoint: everything about these sources and days, whose rows are durable already."""
        number = self.checkpoint + 1
        with self._transaction():
            self._save(list(sources))
            for path in missing:
                self._database.execute_sql(_GONE, (path,))
            for day, summary in days:
                name = day_name(day)
                if summary[2]:
                    values = (name, *summary, 0 if self._bulk else number)
                    self._database.execute_sql("INSERT OR REPLACE INTO day VALUES (?, ?, ?, ?, ?)", values)
                else:
                    self._database.execute_sql("DELETE FROM day WHERE day = ?", (name,))
            self.note("checkpoint", str(number))
        self.checkpoint = number

    def _save(self, sources: list[SavedSource]) -> None:
        run = self._database.connection().executemany
        run(_SAVE_SOURCE, [saved.source for saved in sources])
        run(_CLOSE, [(saved.source[0], offset) for saved in sources for offset in saved.closed])
        run(_SAVE_OPEN, [(saved.source[0], *request) for saved in sources for request in saved.opened])
        run(_SAVE_ROLE, [(saved.source[0], *role) for saved in sources for role in saved.roles])
        run(_SAVE_REJECTED, [(saved.source[0], *rejected) for saved in sources for rejected in saved.rejected])
        run(_SAVE_SESSION, [(session, saved.source[0], *note) for saved in sources for session, note in saved.sessions])
        for saved in sources:
            start = 0
            for values in saved.archived:
                part = Extent(*values)
                self._save_extent(saved.source[0], start, part)
                start += part.size

    def mark_resetting(self, progress: SourceState) -> None:
        """A file is another one now: forget what was derived of it, before its old rows are dropped.

        Durable first, because the rows go day by day: a crash half-way must find that they have to go.
        """
        with self._transaction():
            for table in _OF_A_SOURCE:
                self._database.execute_sql(f"DELETE FROM {table} WHERE source = ?", (progress.id,))
            self._database.execute_sql(
                "DELETE FROM archived WHERE source = ? AND start >= ?",
                (progress.id, archived_size(progress.archived)),
            )
            self._database.execute_sql(
                f"UPDATE source SET {_RESET} WHERE id = ?",
                (progress.id,),
            )

    def archive(self, moves: Iterable[Move], folder: str) -> dict[str, str]:
        """Note that logs lie in the archive now; gives for each that was refused why.

        What is read of such a log's file from here on is read from its start: its offset is where the archive ends.
        """
        refused = {}
        with self._transaction():
            self.note("archive", folder)
            for path, looks, part in moves:
                sql = "SELECT id, device, inode, size, mtime_ns, offset FROM source WHERE path = ?"
                row = self._database.execute_sql(sql, (path,)).fetchone()
                if row is None:
                    refused[path] = "it is not indexed"
                    continue
                parts = self._archived(row[0])
                begin = archived_size(parts)
                if parts and parts[-1] == part and row[5] == begin:
                    continue  # noted before
                if row[1:5] != looks or row[5] != begin + part.size:
                    refused[path] = "it has changed, or is not indexed to its end"
                    continue
                self._save_extent(row[0], begin, part)
        return refused

    def _archived(self, id_: int) -> tuple[Extent, ...]:
        return tuple(Extent(*row) for row in self._database.execute_sql(_ARCHIVED, (id_,)))

    def _save_extent(self, id_: int, start: int, part: Extent) -> None:
        """Record where the bytes of a source from `start` on are; within a transaction."""
        self._database.execute_sql("INSERT OR IGNORE INTO archive_file (name) VALUES (?)", (part.file,))
        self._database.execute_sql(
            "INSERT OR REPLACE INTO archived (source, start, file, at, size, lines, sign)"
            " SELECT ?, ?, id, ?, ?, ?, ? FROM archive_file WHERE name = ?",
            (id_, start, part.at, part.size, part.lines, part.sign, part.file),
        )

    def begin_drop(self, paths: Iterable[str]) -> None:
        """Logs are to be forgotten: first that nothing of them is archived any more, then their rows. Durable first,
        so that a crash half-way finds that the rows have to go, and nothing brings them back."""
        ids = [(path,) for path in paths]
        run = self._database.connection().executemany
        with self._transaction():
            for table in ("archived", *_OF_A_SOURCE):
                run(f"DELETE FROM {table} WHERE source = (SELECT id FROM source WHERE path = ?)", ids)
            run(f"UPDATE source SET {_RESET} WHERE path = ?", ids)

    def finish_drop(self, paths: Iterable[str]) -> None:
        """Their rows are gone, durably."""
        with self._transaction():
            ids = [(path,) for path in paths]
            run = self._database.connection().executemany
            for table in ("archived", *_OF_A_SOURCE):
                run(f"DELETE FROM {table} WHERE source = (SELECT id FROM source WHERE path = ?)", ids)
            run("DELETE FROM source WHERE path = ?", ids)
            self._database.execute_sql("DELETE FROM archive_file WHERE id NOT IN (SELECT file FROM archived)")

    # ---- filters of days

    def filtered(self) -> set[str]:
        """The days that have a filter."""
        return {str(day) for (day,) in self._database.execute_sql("SELECT day FROM filtered_day")}

    def save_filter(self, day: str, blocks: list[bytes], *, is_compact: bool) -> None:
        """Keep the filter of a day, whose rows are durable."""
        with self._transaction():
            self._drop_filters([day])
            rows = [(day, number, bits) for number, bits in enumerate(blocks)]
            run = self._database.connection().executemany
            run("INSERT INTO day_filter (day, block, bits) VALUES (?, ?, ?)", rows)
            self._database.execute_sql("INSERT INTO filtered_day VALUES (?, ?, ?)", (day, len(blocks), is_compact))

    def drop_filters(self, days: Iterable[str]) -> None:
        """Something is going to be written on these days: their filters go, durably, before that."""
        with self._transaction():
            self._drop_filters(days)

    def _drop_filters(self, days: Iterable[str]) -> None:
        names = [(day,) for day in days]
        for table in ("filtered_day", "day_filter"):
            self._database.connection().executemany(f"DELETE FROM {table} WHERE day = ?", names)

    def close(self) -> FileState | None:
        """Close the file, as one that a reader can open anywhere; says how it was left. Raises IndexDamaged."""
        if self._seal is not None:
            return self._seal.close()
        self._database.close()
        return None
