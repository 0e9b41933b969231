"""Reading the catalog: sessions, rejected lines, sources, days, and archived extents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.errors import IndexMissing
from sidecar.fs import FileStat
from sidecar.records import Dropped, Extent, RejectedLine, Session
from sidecar.store import layout
from sidecar.store.bloom import FilterProbe, probe
from sidecar.store.codec import checked_row, decode_state
from sidecar.store.connection import CATALOG
from sidecar.store.open_database import OpenDatabase

ASK_SINGLY_UP_TO = 40
"""Days that are looked up one by one, rather than together with all others in one query."""

_EXTENT = (str, str, int, int, int, int)
_SOURCE_SUMMARY = (str, str, str, int, int, int, int, int, int, int, float, str)
_SOURCE_SUMMARY_UNREAD = (*_SOURCE_SUMMARY[:10], type(None), str)
"""The types of the columns of `standing`, for sources without a first modification time."""
_PARTS = (
    "SELECT s.path, f.name, a.at, a.size, a.lines, a.sign FROM source s JOIN archived a ON a.source = s.id"
    " JOIN archive_file f ON f.id = a.file"
)


class SourceSummary(NamedTuple):
    """What the catalog records of a source."""

    path: str
    stem: str
    layout: str
    looks: FileStat
    """Of its file, when it was last read."""
    offset: int
    """Bytes of the log that were read, archived ones included; `lines` likewise."""
    lines: int
    entries: int
    first_mtime: float | None
    """The modification time noted when the file was first seen, in seconds since 1970."""
    status: str
    """As in `catalog_schema.CatalogSource`."""


class EarlierPart(NamedTuple):
    """An earlier part of a rotated log."""

    path: str
    device: int
    inode: int
    offset: int
    """The byte up to which it was read."""


class CatalogReader(OpenDatabase):
    """The catalog, open for reading."""

    kind = CATALOG

    def sessions(self, status: str | None) -> Iterator[Session]:
        """The sessions of the registry in the order of their creation; with `status`, only those with this one."""
        sql = (
            "SELECT session_id, initiating_agent, created_at, pattern_type, status FROM session_registry"
            " WHERE ? IS NULL OR status = ? ORDER BY created_at, session_id"
        )
        lives = self.lives_in()
        for session, agent, created, pattern, state in self._typed((str, str, float, str, str), sql, status, status):
            yield Session(session, agent, created, pattern, state, lives.get(session, "log"))

    def rejected(self) -> Iterator[RejectedLine]:
        """The lines that are not records, in the order of file path and byte offset."""
        sql = "SELECT source, line_number, byte_offset, length, reason FROM rejected ORDER BY source, byte_offset"
        return (RejectedLine(*row) for row in self._typed((str, int, int, int, str), sql))

    def rejected_by_reason(self) -> dict[str, int]:
        """The number of lines that are not records, by reason."""
        return dict(self._typed((str, int), "SELECT reason, COUNT(*) FROM rejected_line GROUP BY reason"))

    def sources(self) -> list[tuple[Any, ...]]:
        """For each source, in the order of paths: its path; the bytes that were read (earlier parts included), indexed,
        blank, rejected and skipped; and the number of entries."""
        offset = "offset + COALESCE((SELECT SUM(p.offset) FROM part p WHERE p.source = source.id), 0)"
        sql = f"SELECT path, {offset}, indexed, blank, rejected, skipped, entries FROM source ORDER BY path"
        return self._typed((str, int, int, int, int, int, int), sql)

    def times(self) -> dict[str, tuple[int, int, int, int]]:
        """For each source, how many entries name their time, have that of the entry before, and have that of the file;
        and how many of the latter two have a time that cannot be read."""
        sql = "SELECT path, entries - inherited - undated, inherited, undated, unreadable FROM source"
        rows = self._typed((str, int, int, int, int), sql)
        return {path: (own, inherited, undated, unreadable) for path, own, inherited, undated, unreadable in rows}

    def repaired(self) -> dict[str, int]:
        """For each source that has any, the number of records that were read leniently."""
        return dict(self._typed((str, int), "SELECT path, repaired FROM source WHERE repaired > 0"))

    def earlier_parts(self) -> dict[str, list[EarlierPart]]:
        """For each log that was rotated, its earlier parts, the oldest first."""
        sql = (
            "SELECT s.path, p.path, p.device, p.inode, p.offset FROM part p JOIN source s ON s.id = p.source"
            " WHERE p.offset > 0 ORDER BY p.source, p.number"
        )
        found: dict[str, list[EarlierPart]] = {}
        for log, *values in self._typed((str, str, int, int, int), sql):
            found.setdefault(log, []).append(EarlierPart(*values))
        return found

    def looked(self) -> dict[str, tuple[int, int]]:
        """For each source, the size and the modification time (ns) of its file when it was last read."""
        rows = self._typed((str, int, int), "SELECT path, size, mtime_ns FROM source")
        return {path: (size, mtime_ns) for path, size, mtime_ns in rows}

    def count_rejected(self) -> int:
        """The number of lines that are not records."""
        return int(self._all("SELECT COUNT(*) FROM rejected_line")[0][0])

    def dropped(self) -> list[Dropped]:
        """The entries that were dropped because the bytes that they point to are gone, by path and reason."""
        sql = "SELECT path, reason, entries FROM dropped ORDER BY path, reason"
        return [Dropped(*row) for row in self._typed((str, str, int), sql)]

    def days(self) -> list[tuple[Any, ...]]:
        """For each day, in their order: its name, first and last timestamp, and number of entries."""
        sql = "SELECT day, first_timestamp, last_timestamp, entries FROM day ORDER BY day"
        return self._typed((str, float, float, int), sql)

    def checkpoints(self) -> dict[str, int]:
        """For each day, the number of the last checkpoint that wrote to it."""
        return dict(self._typed((str, int), "SELECT day, checkpoint FROM day"))

    def fact(self, key: str) -> str | None:
        """The value of a fact, such as `config` or `build` (docs/glossary.md lists them); None if it is not noted."""
        rows = self._all("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def offsets(self) -> dict[str, tuple[int, bool]]:
        """For each source, the byte up to which it was read, and whether it is not noted as missing."""
        sql = "SELECT path, offset, status <> 'missing' FROM source"
        return {path: (offset, bool(there)) for path, offset, there in self._typed((str, int, int), sql)}

    def loose_answers(self) -> dict[str, list[str]]:
        """For each source with answers across files, the correlations of its answers that belong to none of its
        requests."""
        found: dict[str, list[str]] = {}
        sql = "SELECT s.path, l.correlation FROM loose_answer l JOIN source s ON s.id = l.source"
        for path, key in self._typed((str, str), sql):
            found.setdefault(path, []).append(key)
        return found

    def first_mtimes(self) -> dict[str, float]:
        """For each source, its file's modification time when it was first seen (docs/derivation.md, section 5)."""
        sql = "SELECT path, first_mtime FROM source WHERE first_mtime IS NOT NULL"
        return dict(self._typed((str, float), sql))

    # ---- the archive, and the filters of the days

    def parts(self, path: str) -> tuple[Extent, ...]:
        """The archived extents of a source, in their order."""
        sql = f"{_PARTS} WHERE s.path = ? ORDER BY a.start"
        return tuple(Extent(*values) for _, *values in self._typed(_EXTENT, sql, path))

    def archived(self) -> dict[str, tuple[Extent, ...]]:
        """The archived extents of every source that has any."""
        found: dict[str, tuple[Extent, ...]] = {}
        for path, *values in self._typed(_EXTENT, f"{_PARTS} ORDER BY s.path, a.start"):
            found[path] = (*found.get(path, ()), Extent(*values))
        return found

    def lives_in(self) -> dict[str, str]:
        """For each session of which something is archived: `archive`, or `log, archive`."""
        sql = (
            "SELECT p.session_id, MIN(COALESCE(a.size, 0) >= s.offset), COUNT(a.size) FROM session_part p"
            " JOIN source s ON s.id = p.source"
            " LEFT JOIN (SELECT source, SUM(size) AS size FROM archived GROUP BY source) a ON a.source = p.source"
            " WHERE EXISTS (SELECT 1 FROM archived) GROUP BY p.session_id"
        )
        rows = self._typed((str, int, int), sql)
        return {session: "archive" if whole else "log, archive" for session, whole, some in rows if some}

    def standing(self) -> Iterator[SourceSummary]:
        """Every source, as it was last read."""
        sql = (
            "SELECT path, stem, layout, device, inode, size, mtime_ns, offset, lines, entries, first_mtime, status"
            " FROM source"
        )
        return iter(self._decoded(_source_summary, sql))

    def looks(self) -> dict[str, FileStat]:
        """What the file of each source looked like when it was last read; not of sources of which a part is archived or
        rotated away."""
        sql = (
            "SELECT path, device, inode, size, mtime_ns FROM source s"
            " WHERE NOT EXISTS (SELECT 1 FROM archived a WHERE a.source = s.id)"
            " AND NOT EXISTS (SELECT 1 FROM part p WHERE p.source = s.id)"
        )
        rows = self._typed((str, int, int, int, int), sql)
        return {path: FileStat(*looks) for path, *looks in rows}

    def last_timestamp(self, path: str) -> float | None:
        """The timestamp of the last record of a source; None if it has no record."""
        sql = "SELECT state FROM source WHERE path = ? AND entries > 0 AND state IS NOT NULL"
        times = self._decoded(lambda row: float(decode_state(row[0])["timestamp"]), sql, path)
        return times[0] if times else None

    def filtered(self) -> dict[str, bool]:
        """The days that have a filter, each with whether its file is compact."""
        rows = self._typed((str, int), "SELECT day, is_compact FROM filtered_day")
        return {day: bool(compact) for day, compact in rows}

    def days_without(self, texts: Iterable[str]) -> set[str]:
        """The days that certainly lack at least one of these strings, by their filters: they need not be opened."""
        sql = (
            "SELECT h.day, f.bits FROM filtered_day h CROSS JOIN day_filter f"
            " ON f.day = h.day AND f.block = ? % h.blocks"
        )
        found: set[str] = set()
        others: set[str] = set()
        for text in texts:
            asked = probe(text)
            if found and len(others) <= ASK_SINGLY_UP_TO:
                # Few days are left: look them up one by one.
                one = f"{sql} WHERE h.day = ?"
                rows = [row for day in others for row in self._decoded(_hits(asked), one, asked.number, day)]
            else:
                rows = self._decoded(_hits(asked), sql, asked.number)
            without = {day for day, may_be_there in rows if not may_be_there}
            others = {day for day, _ in rows} - without - found
            found |= without
        return found


def _source_summary(row: Any) -> SourceSummary:
    checked_row(row, _SOURCE_SUMMARY if row[10] is not None else _SOURCE_SUMMARY_UNREAD)
    path, stem, layout_, *looks, offset, lines, entries, first_mtime, status = row
    return SourceSummary(path, stem, layout_, FileStat(*looks), offset, lines, entries, first_mtime, status)


def _hits(asked: FilterProbe) -> Callable[[Any], tuple[str, bool]]:
    """A decoder of rows of a day and a filter block, which returns the day and whether the string may be on it."""

    def decode(row: Any) -> tuple[str, bool]:
        day, bits = checked_row(row, (str, bytes))
        return day, asked.hits(bits)

    return decode


def open_catalog(folder: Path) -> CatalogReader:
    """The catalog of the index in `folder`. Tries again if a swap moves it before it is opened."""
    try:
        return CatalogReader(layout.catalog_path(folder))
    except IndexMissing:
        return CatalogReader(layout.catalog_path(folder))
