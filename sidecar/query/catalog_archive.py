"""What the catalog says of the archive, and of days that need not be opened: the part of `Catalog` for that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sidecar.records import Part
from sidecar.store.bloom import probe
from sidecar.store.packed import unpack

_PARTS = (
    "SELECT s.path, f.name, a.at, a.size, a.lines, a.sign FROM source s JOIN archived a ON a.source = s.id"
    " JOIN archive_file f ON f.id = a.file"
)


class Standing(NamedTuple):
    """A source as the catalog has it."""

    path: str
    stem: str
    layout: str
    looks: tuple[int, ...]
    """Device, inode, size and modification time of its file."""
    offset: int
    lines: int
    entries: int
    first_mtime: float | None
    status: str


FEW = 40
"""Days that are asked one by one rather than with all others."""


class ArchiveSide:
    """Questions to an open catalog."""

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def parts(self, path: str) -> tuple[Part, ...]:
        """What of a source lies in the archive, in order."""
        sql = f"{_PARTS} WHERE s.path = ? ORDER BY a.start"
        return tuple(Part(*values) for _, *values in self._all(sql, path))

    def archived(self) -> dict[str, tuple[Part, ...]]:
        """The same of every source of which anything does."""
        found: dict[str, tuple[Part, ...]] = {}
        for path, *values in self._all(f"{_PARTS} ORDER BY s.path, a.start"):
            found[path] = (*found.get(path, ()), Part(*values))
        return found

    def lives_in(self) -> dict[str, str]:
        """Where the records of sessions are of which anything was archived."""
        sql = (
            "SELECT p.session_id, MIN(COALESCE(a.size, 0) >= s.offset), COUNT(a.size) FROM session_part p"
            " JOIN source s ON s.id = p.source"
            " LEFT JOIN (SELECT source, SUM(size) AS size FROM archived GROUP BY source) a ON a.source = p.source"
            " WHERE EXISTS (SELECT 1 FROM archived) GROUP BY p.session_id"
        )
        return {str(one): "archive" if whole else "log, archive" for one, whole, some in self._all(sql) if some}

    def standing(self) -> Iterator[Standing]:
        """Every source as it was last looked at."""
        sql = (
            "SELECT path, stem, layout, device, inode, size, mtime_ns, offset, lines, entries, first_mtime, status"
            " FROM source"
        )
        for path, stem, layout, *looks, offset, lines, entries, first_mtime, status in self._all(sql):
            yield Standing(path, stem, layout, tuple(looks), offset, lines, entries, first_mtime, status)

    def last_timestamp(self, path: str) -> float | None:
        """The time of the last record of a source; None where it has none."""
        rows = self._all("SELECT state FROM source WHERE path = ? AND entries > 0 AND state IS NOT NULL", path)
        return float(unpack(rows[0][0])["timestamp"]) if rows else None

    def filtered(self) -> dict[str, bool]:
        """The days that have a filter, and whether their files are compact."""
        return {str(day): bool(compact) for day, compact in self._all("SELECT day, is_compact FROM filtered_day")}

    def days_without(self, texts: Iterable[str]) -> set[str]:
        """Days on which, of these strings, at least one is certainly not: days that need not be opened."""
        sql = (
            "SELECT h.day, f.bits FROM filtered_day h CROSS JOIN day_filter f"
            " ON f.day = h.day AND f.block = ? % h.blocks"
        )
        found: set[str] = set()
        others: set[str] = set()
        for text in texts:
            asked = probe(text)
            if found and len(others) <= FEW:
                # The days that are left are looked at one by one.
                rows = [row for day in others for row in self._all(f"{sql} WHERE h.day = ?", asked.number, day)]
            else:
                rows = self._all(sql, asked.number)
            without = {day for day, bits in rows if not asked.hits(bits)}
            others = {day for day, _ in rows} - without - found
            found |= without
        return found
