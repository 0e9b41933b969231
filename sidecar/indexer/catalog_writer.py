"""The catalog, for writing: how far each log was read, what its next row depends on, and what holds for all days.

Every change is one synced transaction. A checkpoint is saved after the daily files have been made durable, so that a
saved offset is never ahead of its rows (P4). It costs as much as has changed: open requests and roles are rows that
come and go. Of answered requests, which are few, only the positions are saved; their content is in the daily files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any
from uuid import uuid4

from sidecar.config.settings import Source
from sidecar.guarded import GuardedFolder
from sidecar.ingest.linking import Request
from sidecar.ingest.source import Counts, SourceState
from sidecar.logs.tail import Cursor
from sidecar.records import Dropped, Extent, Move, archived_size
from sidecar.store.codec import decode_state, unpack_places
from sidecar.store.connection import CATALOG, create
from sidecar.store.layout import CATALOG_NAME
from sidecar.times import SECONDS_PER_DAY, YEAR_10000, day_name

from . import generations, part_rows
from .across import AnswersAcross, Mark
from .day_filters import DayFilterTables
from .known_files import KnownFile
from .saved_source import SavedSource, kept_values, open_end, part_values, saved_addressees
from .tamper import FileState, TamperGuard

_SOURCE_COLUMNS = (
    "id, path, layout, stem, first_mtime, device, inode, size, mtime_ns, offset, lines, head, tail,"
    " indexed, blank, rejected, skipped, entries, inherited, undated, unreadable, repaired, status, state"
)
_SAVE_SOURCE = f"INSERT OR REPLACE INTO source ({_SOURCE_COLUMNS}) VALUES ({', '.join('?' * 24)})"
_HAS_SOURCE = "SELECT 1 FROM source WHERE path = ?"
_OPEN_COLUMNS = "byte_offset, correlation, author, addressees, pattern, conversation, expects, timestamp"
_SAVE_SESSION = (
    "INSERT INTO session_part (session_id, source, initiating_agent, created_at, pattern_type, is_completed)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (session_id, source) DO UPDATE SET"
    " initiating_agent = IIF(initiating_agent = 'unknown', excluded.initiating_agent, initiating_agent),"
    " is_completed = MAX(is_completed, excluded.is_completed)"
)
_CLOSE = "DELETE FROM open_request WHERE source = ? AND byte_offset = ?"
_SAVE_OPEN = f"INSERT OR REPLACE INTO open_request (source, {_OPEN_COLUMNS}, awaits) VALUES ({', '.join('?' * 10)})"
_SAVE_REJECTED = (
    "INSERT OR REPLACE INTO rejected_line (source, line_number, byte_offset, byte_length, reason)"
    " VALUES (?, ?, ?, ?, ?)"
)
_SAVE_ROLE = "INSERT OR REPLACE INTO held_role (source, agent, role) VALUES (?, ?, ?)"
# Whose file is gone: all of the log is archived, or some of it is lost.
_MISSING = (
    "UPDATE source SET status = IIF(offset <= (SELECT SUM(a.size) FROM archived a WHERE a.source = source.id),"
    " 'archived', 'missing') WHERE path = ?"
)
_RESET = (
    "offset = 0, lines = 0, indexed = 0, blank = 0, rejected = 0, skipped = 0, entries = 0, repaired = 0, size = -1,"
    " inherited = 0, undated = 0, unreadable = 0, status = 'resetting', state = NULL, first_mtime = ?"
)
_DROPPED = (
    "INSERT INTO dropped (path, reason, entries) VALUES (?, ?, ?)"
    " ON CONFLICT (path, reason) DO UPDATE SET entries = entries + excluded.entries"
)
_ARCHIVED = (
    "SELECT f.name, a.at, a.size, a.lines, a.sign FROM archived a JOIN archive_file f ON f.id = a.file"
    " WHERE a.source = ? ORDER BY a.start"
)
_TABLES_OF_SOURCES = ("open_request", "loose_answer", "held_role", "session_part", "rejected_line")
_ALL_TABLES = ("archived", "part", *_TABLES_OF_SOURCES)
DaySummary = tuple[int, tuple[float, float, int]]
"""A day number, with the day's first and last timestamp and its number of entries."""


class CatalogWriter(DayFilterTables):
    """The catalog, open for writing. Only the indexing thread uses it."""

    def __init__(self, index: GuardedFolder, *, bulk: bool = False) -> None:
        """Open the catalog, or create one. With `bulk`, nothing is journalled or synced, so that the file is of no use
        after a crash. Raises IndexDamaged, SchemaMismatch, OSError, or what SQLite raises.
        """
        self.path = index.path / CATALOG_NAME
        self._bulk = bulk
        self._database = create(index, CATALOG_NAME, CATALOG, bulk=bulk)
        self._guard = None if bulk else TamperGuard(self._database, self.path)
        if not bulk:
            self._database.execute_sql("PRAGMA synchronous = FULL")
        self.across = AnswersAcross(self._database)
        self.checkpoint = int(self.fact("checkpoint") or 0)
        """The number of the last checkpoint."""
        self._has_parts = part_rows.are_there(self._database)
        if self.fact("epoch") is None:
            self.note("epoch", uuid4().hex)

    def check(self) -> None:
        """Raise IndexDamaged if another process has deleted, replaced or written to the catalog."""
        if self._guard is not None:
            self._guard.check()

    def _transaction(self) -> AbstractContextManager[Any]:
        """The transaction for everything that is written, alone or within another one."""
        return self._database.atomic("IMMEDIATE") if self._guard is None else self._guard.writing()

    # ---- facts about the index

    def fact(self, key: str) -> str | None:
        """The value noted under a key, such as `config` or `checkpoint` (`docs/glossary.md` lists them), or None."""
        row = self._database.execute_sql("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, key: str, value: str) -> None:
        """Save a value under a key, durably."""
        with self._transaction():
            self._database.execute_sql("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    # ---- sources

    def known(self) -> Iterator[tuple[str, KnownFile]]:
        """The path of every source and what its file looked like, except for sources that are archived as a whole.

        A file that was not read to its end gets the size -1, so that a scan finds that it has to be read: the rest may
        contain whole lines, or the file may be an event file that did not parse then.
        """
        begin = "COALESCE((SELECT SUM(a.size) FROM archived a WHERE a.source = source.id), 0)"
        size = f"IIF(offset - {begin} < size OR lines = 0, -1, size)"
        columns = f"path, device, inode, {size}, mtime_ns, status = 'missing'"
        sql = f"SELECT {columns} FROM source WHERE status <> 'archived'"
        for path, *values in self._database.execute_sql(sql):
            if any(value.__class__ is not int for value in values):
                raise TypeError(f"{path!r} with {values}")
            yield part_rows.path_in(path), KnownFile(*values)

    def known_parts(self) -> Iterator[tuple[str, str, KnownFile]]:
        """For each earlier part, its path, that of its log, and what its file looked like."""
        return part_rows.known_parts(self._database)

    def has_archived(self) -> bool:
        """Whether anything of any source is archived."""
        return bool(self._database.execute_sql("SELECT EXISTS (SELECT 1 FROM archived)").fetchone()[0])

    def without(self, paths: Iterable[str]) -> list[str]:
        """Those of `paths` that are not sources in the catalog."""
        return [path for path in paths if not self._database.execute_sql(_HAS_SOURCE, (path,)).fetchone()]

    def source_of_file(self, device: int, inode: int) -> str | None:
        """The path of the source whose file was this one when it was last saved; None if there is none."""
        return part_rows.source_of_file(self._database, device, inode)

    def last_id(self) -> int:
        """The highest id of a source; 0 if there is none."""
        return int(self._database.execute_sql("SELECT COALESCE(MAX(id), 0) FROM source").fetchone()[0])

    def resetting(self) -> list[str]:
        """Paths of the sources whose rows were being deleted when the sidecar was killed, and of their parts."""
        return part_rows.resetting(self._database)

    def load(
        self, path: str, source: Source, answered: Callable[[str, list[tuple[int, int]]], Iterable[Request]]
    ) -> SourceState | None:
        """The state of a source as it was saved; None if the catalog does not have it. `answered` is called with the
        path of a file, and days and byte offsets, and returns the answered requests there. Raises TypeError, ValueError
        and the like for values that the sidecar never writes."""
        sql = f"SELECT {_SOURCE_COLUMNS} FROM source WHERE path = ?"
        row = self._database.execute_sql(sql, (path,)).fetchone()
        if row is None:
            return None
        id_, _, _, ids_begin, first_mtime, *mark_and_counts, _, packed = row
        if any(value.__class__ is not int for value in mark_and_counts) or not 0 <= (first_mtime or 0.0) < YEAR_10000:
            raise TypeError(f"{mark_and_counts}, {first_mtime!r}")
        progress = SourceState(
            id_, path, source, first_mtime, Cursor(*mark_and_counts[:8]), Counts(*mark_and_counts[8:])
        )
        progress.archived = self._archived(id_)
        progress.parts = tuple(part_rows.parts_of(self._database, id_))
        if packed is not None:
            saved = decode_state(packed)
            state = progress.state
            state.timestamp, state.owner = saved["timestamp"], saved["owner"]
            state.roles.update(self._roles(id_))
            state.names.update(kept_values(saved["kept"]))
            progress.is_not_utf8 = saved["not_utf8"] is True
            # A rotation may have been noted since: then the file with the plain name is another one.
            if progress.cursor.offset > archived_size(progress.archived):
                progress.open_end = open_end(saved["open_end"])
            places = list(unpack_places(saved["answered"]))
            open_requests = self._open_requests(id_, ids_begin)
            known = part_rows.answered(progress, places, answered)
            state.requests.restore(open_requests, known, map(tuple, saved["early"]))
        return progress

    def saved(self, path: str) -> tuple[int, Iterable[Request]]:
        """The byte up to which a file was read, and the requests in it that are open there, by their byte offsets in
        it; (0, ()) if it was never saved."""
        file = part_rows.saved_file(self._database, path)
        if file is None:
            return 0, ()
        return file.offset, file.requests_in(self._open_requests(file.source, file.ids_begin))

    def _open_requests(self, id_: int, ids_begin: str) -> Iterator[Request]:
        sql = f"SELECT {_OPEN_COLUMNS} FROM open_request WHERE source = ? ORDER BY byte_offset"
        for offset, correlation, author, addressees, *rest in self._database.execute_sql(sql, (id_,)):
            pattern, conversation, expects, timestamp = rest
            to = saved_addressees(addressees)
            if timestamp.__class__ is not float:
                raise TypeError(f"the time {timestamp!r}")
            day = int(timestamp // SECONDS_PER_DAY)
            where = (pattern, ids_begin if conversation is None else conversation)
            yield Request(offset, day, correlation, author, to, *where, bool(expects), timestamp)

    def _roles(self, id_: int) -> Iterator[tuple[str, str]]:
        for agent, role in self._database.execute_sql("SELECT agent, role FROM held_role WHERE source = ?", (id_,)):
            if agent.__class__ is not str or role.__class__ is not str:
                raise TypeError(f"the role {role!r} of {agent!r}")
            yield agent, role

    # ---- parts of rotated logs

    def _save_parts(self, id_: int, parts: list[tuple[Any, ...]]) -> None:
        """Save the parts of a log; within a transaction."""
        if parts or self._has_parts:
            part_rows.save(self._database, id_, parts)
            self._has_parts = True

    def begin_move(self, state: SourceState, move: str) -> None:
        """Save where the parts of a log are now; everything else about it is saved already. `move` says how the daily
        files have to follow, and is the fact `move` until `end_move`. It is durable before they do, so that after a
        kill the next start does the rest."""
        with self._transaction():
            self._save_parts(state.id, part_values(state))
            generations.begin(self._database, [state.id], self.checkpoint + 1)
            columns = "device = ?, inode = ?, size = ?, mtime_ns = ?, offset = ?, lines = ?, head = ?, tail = ?"
            self._database.execute_sql(f"UPDATE source SET {columns} WHERE id = ?", (*state.cursor[:8], state.id))
            self.note("move", move)

    def end_move(self) -> None:
        """Note that the move is durable in every daily file: it is the fact `moved` from here on."""
        with self._transaction():
            self._database.execute_sql("UPDATE OR REPLACE meta SET key = 'moved' WHERE key = 'move'")

    # ---- saving

    def save(self, sources: Iterable[SavedSource], days: Iterable[DaySummary], missing: Iterable[str] = ()) -> None:
        """Save a checkpoint: these sources and days, whose rows are durable already, and sources whose files are
        missing.

        The daily files of a bulk load note no checkpoints, so their days are saved with the number 0.
        """
        number = self.checkpoint + 1
        with self._transaction():
            self._save(list(sources), number)
            for path in missing:
                self._database.execute_sql(_MISSING, (path,))
                generations.note_saved_path(self._database, path, number)
            for day, summary in days:
                name = day_name(day)
                if summary[2]:
                    values = (name, *summary, 0 if self._bulk else number)
                    self._database.execute_sql("INSERT OR REPLACE INTO day VALUES (?, ?, ?, ?, ?)", values)
                else:
                    self._database.execute_sql("DELETE FROM day WHERE day = ?", (name,))
            self.note("checkpoint", str(number))
        self.checkpoint = number

    def _save(self, sources: list[SavedSource], number: int) -> None:
        run = self._database.connection().executemany
        run(_SAVE_SOURCE, [saved.source for saved in sources])
        generations.note_saved(self._database, [saved.source[0] for saved in sources], number)
        for saved in sources:
            self._save_parts(saved.source[0], saved.parts)
        run(_CLOSE, [(saved.source[0], offset) for saved in sources for offset in saved.closed])
        run(_SAVE_OPEN, [(saved.source[0], *request) for saved in sources for request in saved.opened])
        self.across.save(sources)
        run(_SAVE_ROLE, [(saved.source[0], *role) for saved in sources for role in saved.roles])
        run(_SAVE_REJECTED, [(saved.source[0], *rejected) for saved in sources for rejected in saved.rejected])
        run(_SAVE_SESSION, [(session, saved.source[0], *note) for saved in sources for session, note in saved.sessions])
        for saved in sources:
            start = 0
            for values in saved.archived:
                extent = Extent(*values)
                self._save_extent(saved.source[0], start, extent)
                start += extent.size

    def mark_resetting(self, state: SourceState, dropped: Dropped | None) -> list[Mark]:
        """Delete what was derived from a file that is another one now, before its rows are deleted, and count the
        entries that are dropped. What `state` says about archived bytes and the first modification time is kept.
        Returns the marks of the requests in other logs whose answers are gone with it.

        Durable first, because the rows are deleted day by day: after a kill, the next start must know that they have to
        go.
        """
        with self._transaction():
            keys = self.across.keys_of([state.id])
            for table in _TABLES_OF_SOURCES:
                self._database.execute_sql(f"DELETE FROM {table} WHERE source = ?", (state.id,))
            self._database.execute_sql(
                "DELETE FROM archived WHERE source = ? AND start >= ?", (state.id, archived_size(state.archived))
            )
            self._database.execute_sql(f"UPDATE source SET {_RESET} WHERE id = ?", (state.first_mtime, state.id))
            generations.begin(self._database, [state.id], self.checkpoint + 1)
            # Their paths are needed as long as the source is `resetting`, until the rows under them are gone.
            self._database.execute_sql("UPDATE part SET offset = 0, lines = 0, base = 0 WHERE source = ?", (state.id,))
            if dropped is not None:
                self.note_dropped([dropped])
            return self.across.marks_of(keys)

    def note_dropped(self, dropped: Iterable[Dropped]) -> None:
        """Add to the numbers of dropped entries. Durable, unless it is called within a transaction."""
        with self._transaction():
            self._database.connection().executemany(_DROPPED, dropped)

    def archive(self, moves: Iterable[Move], folder: str) -> dict[str, str]:
        """Record where logs have been archived in `folder`. Returns the reasons for those refused, by path. Recording
        the same again changes nothing.

        The offset of such a log is now where its archived bytes end: whatever file it has from here on is read from its
        start.
        """
        refused = {}
        with self._transaction():
            self.note("archive", folder)
            for path, looks, extent in moves:
                sql = "SELECT id, device, inode, size, mtime_ns, offset FROM source WHERE path = ?"
                row = self._database.execute_sql(sql, (path,)).fetchone()
                if row is None:
                    refused[path] = "it is not indexed"
                    continue
                if part_rows.parts_of(self._database, row[0]):
                    refused[path] = "it was rotated"
                    continue
                extents = self._archived(row[0])
                begin = archived_size(extents)
                if extents and extents[-1] == extent and row[5] == begin:
                    # Recorded before.
                    continue
                if row[1:5] != looks or row[5] != begin + extent.size:
                    refused[path] = "it has changed, or is not indexed to its end"
                    continue
                self._save_extent(row[0], begin, extent)
                generations.note_saved(self._database, [row[0]], self.checkpoint + 1)
        return refused

    def _archived(self, id_: int) -> tuple[Extent, ...]:
        return tuple(Extent(*row) for row in self._database.execute_sql(_ARCHIVED, (id_,)))

    def _save_extent(self, id_: int, start: int, extent: Extent) -> None:
        """Save where the bytes of a log from `start` on are archived; within a transaction."""
        self._database.execute_sql("INSERT OR IGNORE INTO archive_file (name) VALUES (?)", (extent.file,))
        self._database.execute_sql(
            "INSERT OR REPLACE INTO archived (source, start, file, at, size, lines, sign)"
            " SELECT ?, ?, id, ?, ?, ?, ? FROM archive_file WHERE name = ?",
            (id_, start, extent.at, extent.size, extent.lines, extent.sign, extent.file),
        )

    def begin_drop(self, paths: Sequence[str]) -> list[Mark]:
        """Delete what was derived from logs, and where they are archived, before their rows are deleted. Durable first,
        so that after a kill the next start deletes the rest, and nothing brings the rows back."""
        names = [(path,) for path in paths]
        run = self._database.connection().executemany
        with self._transaction():
            ids = "SELECT id FROM source WHERE path = ?"
            sources = [id_ for name in names for (id_,) in self._database.execute_sql(ids, name)]
            keys = self.across.keys_of(sources)
            generations.begin(self._database, sources, self.checkpoint + 1)
            for table in ("archived", *_TABLES_OF_SOURCES):
                run(f"DELETE FROM {table} WHERE source = (SELECT id FROM source WHERE path = ?)", names)
            run(f"UPDATE source SET {_RESET} WHERE path = ?", [(None, path) for path in paths])
            return self.across.marks_of(keys)

    def finish_drop(self, paths: Sequence[str]) -> None:
        """Delete logs whose rows are gone, durably, and archive files that nothing is in any more. It counts as a
        checkpoint, so that who copies rows elsewhere sees the tombstones."""
        names = [(path,) for path in paths]
        run = self._database.connection().executemany
        number = self.checkpoint + 1
        with self._transaction():
            generations.bury(self._database, paths, number)
            for table in _ALL_TABLES:
                run(f"DELETE FROM {table} WHERE source = (SELECT id FROM source WHERE path = ?)", names)
            run("DELETE FROM source WHERE path = ?", names)
            self._database.execute_sql("DELETE FROM archive_file WHERE id NOT IN (SELECT file FROM archived)")
            self.note("checkpoint", str(number))
        self.checkpoint = number

    def close(self) -> FileState | None:
        """Close the file, so that it can be read even in a read-only folder. Returns how it was left; None for a bulk
        load, and where it was closed already. Raises IndexDamaged; it is closed nevertheless."""
        if self._guard is not None:
            return self._guard.close()
        self._database.close()
        return None
