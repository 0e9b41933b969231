"""Where the records of a day's entries are in their logs, for a search: all of them, or those that match a filter."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from sidecar.fs import split_path
from sidecar.records import Entry
from sidecar.search.scan import Spot
from sidecar.store.daily_schema import CHECKSUM_OFFSET, SPAN_IDS

from .columns import PATH
from .day_reader import DayReader
from .filters import Filter

_PLACE = f"e.byte_offset, e.byte_length, e.checksum + {CHECKSUM_OFFSET}, e.timestamp, e.id"
_TYPES = (int, int, int, float, int)
_PATHS = f"SELECT s.id, {PATH} FROM source s CROSS JOIN name f ON f.id = s.folder"


def edge(day: DayReader, wanted: Filter, count: int) -> float | None:
    """The timestamp of the `count`th entry from the end, of those that match; None if there are not more than these."""
    found = day.chosen(wanted, "e.timestamp", (float,), "ORDER BY e.timestamp DESC LIMIT 2 OFFSET ?", count - 1)
    return found[0][0] if len(found) == 2 else None


def places(day: DayReader, wanted: Filter) -> list[tuple[str, list[Spot]]]:
    """For each log, the places of its entries that match, in the order of their offsets."""
    rows = day.chosen(wanted, f"e.source, {_PLACE}", (int, *_TYPES), "ORDER BY e.source, e.byte_offset")
    paths = dict(day.typed_rows((int, str), _PATHS))
    return [
        (paths[source], [Spot(*row[1:]) for row in group])
        for source, group in groupby(rows, key=itemgetter(0))
        if source in paths
    ]


def extents(day: DayReader) -> list[tuple[str, int, int]]:
    """For each log with entries on this day: its path, an offset before which it has none, and the offset at which the
    last one ends."""
    sql = (
        f"SELECT {PATH}, MIN(p.byte_offset) FROM span p JOIN source s ON s.id = p.source JOIN name f ON f.id = s.folder"
    )
    starts = day.typed_rows((str, int), f"{sql} GROUP BY p.source")
    ends = day.reached(-1)
    return [(path, start, ends[path]) for path, start in starts if path in ends]


def places_between(day: DayReader, path: str, start: int, end: int) -> list[Spot]:
    """The places of a log's entries that have a byte between two offsets, in the order of their offsets."""
    sql = (
        f"SELECT {_PLACE} FROM source s CROSS JOIN name f ON f.id = s.folder JOIN span p ON p.source = s.id"
        f" JOIN entry e ON e.id >= p.first AND e.id < p.first + {SPAN_IDS} AND e.source = s.id"
        " WHERE f.text = ?1 AND s.stem = ?2 AND s.suffix = ?3 AND p.byte_offset < ?5 AND p.byte_offset >= COALESCE("
        "(SELECT MAX(byte_offset) FROM span WHERE source = s.id AND byte_offset <= ?4), 0)"
        " AND e.byte_offset < ?5 AND e.byte_offset + e.byte_length > ?4 ORDER BY e.byte_offset"
    )
    found = day.typed_rows(_TYPES, sql, *split_path(path), start, end)
    # Ranges of ids may overlap.
    return list({row[0]: Spot(*row) for row in found}.values())


def entries_at(day: DayReader, numbers: Sequence[int]) -> dict[tuple[str, int], Entry]:
    """The entries with these numbers, by path and offset. Those that do not exist are left out."""
    found: dict[tuple[str, int], Entry] = {}
    left = sorted(numbers)
    while left:
        page = day.numbered(left)
        found |= {(entry.file_path, entry.byte_offset): entry for entry in page.entries}
        left = [] if page.is_whole else [number for number in left if number > page.last_number]
    return found
