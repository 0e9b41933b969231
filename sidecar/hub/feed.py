"""What a pusher reads of a node's own index: read-only, as any library user, and nothing that no checkpoint covers.

The catalog is asked first, within one transaction: how far each log was read, and which requests were open then. Rows
of the daily files are read after it, and only up to there; what they say about answers counts only if the catalog says
so too. So whatever the sidecar does meanwhile, the hub is never ahead of the catalog.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.errors import IndexMissing
from sidecar.fs import OpenFiles, split_path
from sidecar.query.columns import PATH
from sidecar.store import layout
from sidecar.store.connection import CATALOG, DAILY
from sidecar.store.daily_schema import SPAN_IDS
from sidecar.store.open_database import OpenDatabase

from . import values
from .values import ContextValue, FeedRow, KindValue, PartyValue

MAX_OPEN_DAYS = 64
MAX_CACHED = 20_000
"""Combinations of a day of which the values are remembered. Beyond that, all are forgotten and looked up again."""

_LOG = (
    "SELECT s.id, s.path, s.stem, s.layout, COALESCE(g.number, 0), s.offset, s.entries, s.status, s.size, s.indexed,"
    " s.blank, s.rejected, s.skipped, s.repaired, s.inherited, s.undated, s.unreadable FROM source s"
    " LEFT JOIN generation g ON g.source = s.id WHERE "
)
_COUNTS = ("size", "indexed", "blank", "rejected", "skipped", "repaired", "inherited", "undated", "unreadable")
_ROW = (
    "e.timestamp, e.byte_offset, e.answered_after, e.line_number, e.byte_length, e.checksum, e.requests_response,"
    " e.has_response, r.text, e.kind, e.context, e.party, e.roles"
)
_ROWS = (
    f"SELECT {_ROW} FROM span p JOIN entry e ON e.id >= p.first AND e.id < p.first + {SPAN_IDS}"
    " AND e.source = p.source LEFT JOIN correlation r ON r.id = e.correlation WHERE p.source = ?1 AND p.byte_offset >="
    " COALESCE((SELECT MAX(byte_offset) FROM span WHERE source = ?1 AND byte_offset <= ?2), 0) AND p.byte_offset < ?3"
    # Ids of a span may reach into the next.
    " AND e.byte_offset >= ?2 AND e.byte_offset < ?3 GROUP BY e.id"
)
_KIND = (
    "SELECT t.text, a.text, k.is_completion, k.is_request, k.has_author, k.addressees, k.self_place FROM kind k"
    " JOIN name t ON t.id = k.event_type JOIN name a ON a.id = k.pattern WHERE k.id = ?"
)
_CONTEXT = (
    "SELECT s.text, i.text, v.text FROM context c JOIN name s ON s.id = c.session"
    " JOIN name i ON i.id = c.initiating_agent JOIN name v ON v.id = c.conversation WHERE c.id = ?"
)


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of a log: an earlier part, or the one with the plain name."""

    path: str
    stem: str
    """What the ids of its entries begin with."""
    offset: int
    """The byte up to which it was read."""
    base: int
    """The position in the log at which it begins."""


@dataclass(frozen=True, slots=True)
class Log:
    """A source as the catalog has it."""

    id: int
    path: str
    layout: str
    generation: int
    entries: int
    status: str
    counts: str
    """A JSON object."""
    files: tuple[LogFile, ...]
    """The oldest first."""


class OpenState(NamedTuple):
    """A request that is open in its log, as the catalog has it."""

    correlation: str | None
    is_marked: bool
    """Whether another log has its answer."""


class FeedCatalog(OpenDatabase):
    """The catalog of an index, open for reading."""

    kind = CATALOG

    def position(self) -> tuple[str, int]:
        """Which index this is, and its last checkpoint."""
        facts = dict(self._typed((str, str), "SELECT key, value FROM meta WHERE key IN ('epoch', 'checkpoint')"))
        return facts.get("epoch", ""), int(facts.get("checkpoint", 0))

    def changed(self, after: int) -> list[int]:
        """Sources that a later checkpoint than this one has saved; all of them if it is negative."""
        if after < 0:
            return [row[0] for row in self._typed((int,), "SELECT id FROM source ORDER BY id")]
        sql = "SELECT source FROM generation WHERE checkpoint > ? ORDER BY source"
        return [row[0] for row in self._typed((int,), sql, after)]

    def gone(self, after: int) -> list[str]:
        """Logs that went after a checkpoint, and have not come again."""
        sql = "SELECT path FROM tombstone WHERE checkpoint > ? AND path NOT IN (SELECT path FROM source)"
        return [row[0] for row in self._typed((str,), sql, after)]

    def days(self) -> dict[str, int]:
        """For each day, the last checkpoint that wrote to it."""
        return dict(self._typed((str, int), "SELECT day, checkpoint FROM day ORDER BY day"))

    def log(self, source: int) -> Log | None:
        """A source by its id; None if it is gone."""
        found = self._all(f"{_LOG} s.id = ?", source)
        return self._log(found[0]) if found else None

    def log_of_file(self, path: str) -> int | None:
        """The id of the log that a file belongs to."""
        sql = "SELECT id FROM source WHERE path = ?1 UNION SELECT source FROM part WHERE path = ?1"
        rows = self._typed((int,), sql, path)
        return rows[0][0] if rows else None

    def log_at(self, path: str) -> Log | None:
        """A source by its path."""
        found = self._all(f"{_LOG} s.path = ?", path)
        return self._log(found[0]) if found else None

    def _log(self, row: tuple[Any, ...]) -> Log:
        source, path, stem, layout_, generation, offset, entries, status, *counts = row
        sql = "SELECT path, offset, base FROM part WHERE source = ? AND offset > 0 ORDER BY number"
        parts = self._typed((str, int, int), sql, source)
        # As `ingest.source.SourceState.log_name`: where the path names the session, so do the ids of its parts.
        is_named = layout_ != "file" and stem != split_path(path)[1]
        files = [LogFile(one, stem if is_named else split_path(one)[1], end, base) for one, end, base in parts]
        begin = max((file.base + file.offset for file in files), default=0)
        files.append(LogFile(path, stem, offset, begin))
        archived = self._all("SELECT COALESCE(SUM(size), 0) FROM archived WHERE source = ?", source)[0][0]
        said = json.dumps({**dict(zip(_COUNTS, counts, strict=True)), "archived": archived})
        return Log(source, path, layout_, generation, entries, status, said, tuple(files))

    def generations(self, sources: Iterable[int]) -> dict[int, tuple[int, tuple[str, ...]]]:
        """The generation of each of some sources now, and the paths of its files."""
        found = {}
        for source in sources:
            log = self.log(source)
            if log is not None:
                found[source] = (log.generation, tuple(file.path for file in log.files))
        return found

    def open_at(self, source: int, position: int) -> OpenState | None:
        """The request at a position in a log; None if it is not open."""
        sql = (
            "SELECT correlation, awaits IS NOT NULL AND EXISTS (SELECT 1 FROM loose_answer l"
            " WHERE l.correlation = o.awaits AND l.source <> o.source) FROM open_request o"
            " WHERE source = ? AND byte_offset = ?"
        )
        rows = self._all(sql, source, position)
        return OpenState(rows[0][0], bool(rows[0][1])) if rows else None

    def marked(self, source: int) -> list[int]:
        """The positions of the open requests of a log that answers in other logs can be found for."""
        sql = "SELECT byte_offset FROM open_request WHERE source = ? AND awaits IS NOT NULL"
        return [row[0] for row in self._typed((int,), sql, source)]

    def sessions(self, source: int, names: Iterable[str] | None) -> list[tuple[Any, ...]]:
        """What a log says of some sessions, or of all."""
        columns = "session_id, initiating_agent, created_at, pattern_type, is_completed"
        types = (str, str, float, str, int)
        if names is None:
            return self._typed(types, f"SELECT {columns} FROM session_part WHERE source = ?", source)
        sql = f"SELECT {columns} FROM session_part WHERE source = ? AND session_id IN (SELECT value FROM json_each(?))"
        return self._typed(types, sql, source, json.dumps(list(names)))

    def rejected(self, source: int, first: int, last: int) -> list[tuple[Any, ...]]:
        """Position, line number, length and reason of the lines in a range that are not records."""
        sql = (
            "SELECT byte_offset, line_number, byte_length, reason FROM rejected_line"
            " WHERE source = ? AND byte_offset >= ? AND byte_offset < ?"
        )
        return self._typed((int, int, int, str), sql, source, first, last)

    def dropped(self) -> list[tuple[Any, ...]]:
        """Path, reason and number of the entries that were dropped."""
        return self._typed((str, str, int), "SELECT path, reason, entries FROM dropped ORDER BY path, reason")


class FeedDay(OpenDatabase):
    """A daily file, open for reading."""

    kind = DAILY

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._kinds: dict[int, tuple[Any, ...]] = {}
        self._contexts: dict[int, ContextValue] = {}
        self._parties: dict[tuple[int, int], PartyValue] = {}

    def touched(self, after: int) -> list[str]:
        """The files of which something was written for a later checkpoint."""
        sql = f"SELECT {PATH} FROM source s JOIN name f ON f.id = s.folder WHERE s.touched > ?"
        return [row[0] for row in self._typed((str,), sql, after)]

    def number(self, path: str) -> int | None:
        """The number of a file that has, or has had, rows here."""
        sql = (
            "SELECT s.id FROM source s JOIN name f ON f.id = s.folder WHERE f.text = ? AND s.stem = ? AND s.suffix = ?"
        )
        rows = self._typed((int,), sql, *split_path(path))
        return rows[0][0] if rows else None

    def end_of(self, number: int, first: int, rows: int) -> int | None:
        """The byte offset before which a file has at most so many rows here, from `first` on; None if all of them."""
        sql = "SELECT byte_offset FROM span WHERE source = ? AND byte_offset > ? ORDER BY byte_offset LIMIT 1 OFFSET ?"
        found = self._typed((int,), sql, number, first, max(0, rows // SPAN_IDS - 1))
        return found[0][0] if found else None

    def rows(self, number: int, first: int, last: int, opens: Opens) -> Iterator[FeedRow]:
        """The rows of a file from a byte offset on and before another."""
        with self.in_one_state():  # the sidecar goes on writing, and numbers must lead to what they led to
            for row in self._all(_ROWS, number, first, last):
                yield self._row(row, opens)

    def _row(self, row: tuple[Any, ...], opens: Opens) -> FeedRow:
        at, offset, after, line, length, checksum, requests, has, correlation, kind, context, party, roles = row
        said = self._kind(kind)
        # Only requests are ever open.
        state = opens.at(offset) if said[3] else None
        if state is not None:
            correlation, after = state.correlation, None
            waits = values.WAITING if requests else values.OPEN
            response = values.ANSWERED_ELSEWHERE if state.is_marked else waits
        elif has:
            response = values.ANSWERED
        else:
            response = values.NEVER_OPEN if requests else values.NONE
        return FeedRow(
            *(at, offset, after, line, length, checksum, response),
            None if correlation is None else values.name(correlation),
            KindValue._make((*said[:4], bool(requests), *said[4:])),
            self._context(context),
            self._party(party, roles),
        )

    def _kind(self, number: int) -> tuple[Any, ...]:
        found = self._kinds.get(number)
        if found is None:
            event_type, pattern, completion, request, author, *rest = self._all(_KIND, number)[0]
            found = (
                values.name(event_type),
                values.name(pattern),
                bool(completion),
                bool(request),
                bool(author),
                *rest,
            )
            _remember(self._kinds, number, found)
        return found

    def _context(self, number: int) -> ContextValue:
        found = self._contexts.get(number)
        if found is None:
            found = ContextValue(*map(values.name, self._all(_CONTEXT, number)[0]))
            _remember(self._contexts, number, found)
        return found

    def _party(self, number: int, roles: int) -> PartyValue:
        found = self._parties.get((number, roles))
        if found is None:
            ((agents,),) = self._all("SELECT agents FROM party WHERE id = ?", number)
            ((held,),) = self._all("SELECT roles FROM role_set WHERE id = ?", roles)
            found = PartyValue(values.clean(agents), values.clean(held))
            _remember(self._parties, (number, roles), found)
        return found


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    if len(known) >= MAX_CACHED:
        known.clear()
    known[key] = value


class Opens:
    """The open requests of a file, as the catalog has them at one checkpoint."""

    def __init__(self, catalog: FeedCatalog, log: Log, file: LogFile) -> None:
        self._catalog, self._log, self._file = catalog, log.id, file

    def at(self, offset: int) -> OpenState | None:
        """The request at a byte offset of the file; None if it is not open."""
        return self._catalog.open_at(self._log, self._file.base + offset)


class Feed:
    """The index in a folder. Raises IndexMissing while there is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._catalog: FeedCatalog | None = None
        self._days: OpenFiles[str, FeedDay] = OpenFiles(MAX_OPEN_DAYS)

    def close(self) -> None:
        """Close all files."""
        self._days.close()
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None

    def catalog(self) -> FeedCatalog:
        """The catalog as it is now: after a swap it is another file, and so are the days."""
        path = layout.catalog_path(self.folder)
        if self._catalog is not None and not (self._catalog.path == path and self._catalog.is_current()):
            self.close()
        if self._catalog is None:
            self._catalog = FeedCatalog(path)
        return self._catalog

    def day(self, name: str) -> FeedDay | None:
        """The file of a day; None if there is none."""
        path = layout.daily_path(self.folder, f"{name}.db")
        if path is None:
            return None
        day = self._days.current(name, lambda one: one.path == path and one.is_current())
        if day is None:
            try:
                day = self._days.add(name, FeedDay(path))
            except IndexMissing:
                return None
        return day
