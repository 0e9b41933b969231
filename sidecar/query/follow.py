"""Entries that were added to the index since the last call: each once, across days, restarts and rebuilds."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.errors import IndexUnavailable
from sidecar.fs import MTIME_GRANULARITY, FileStat, OpenFiles
from sidecar.records import Entry
from sidecar.store import layout

from .day_reader import DayReader
from .filters import Filter

PAGE = 1000
"""Entries per query."""

MAX_OPEN_FOLLOWED = 16
"""Daily files kept open: those that changed most recently."""

MAX_REMEMBERED_ENTRIES = 200_000
"""Entries returned last that are recognized: after a kill, those since the last checkpoint are written again."""


@dataclass(slots=True)
class _Followed:
    """How far a daily file was followed."""

    stats: tuple[FileStat | None, ...] | None = None
    """Of the file and its write-ahead log when it was last read: while they are the same, nobody has written."""
    identity: tuple[int, int] | None = None
    """Which file that was: device and inode."""
    last: int = 0
    """The number of the last entry that was returned, or that was there at the start."""
    furthest: dict[str, int] = field(default_factory=dict)
    """For each log, the byte offset of its last entry that was returned, or that was there at the start."""
    is_rebuilt: bool = False
    """The day was rebuilt and renumbered: until it has been read to its end, only entries beyond `furthest` are new."""


class Follower:
    """Follows the daily files of an index folder, from the moment at which it is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._days: dict[str, _Followed] = {}
        self._open: OpenFiles[str, DayReader] = OpenFiles(MAX_OPEN_FOLLOWED)
        self._listed: tuple[tuple[int, int] | None, list[Path]] = (None, [])
        """The stamp of the folder (`layout.listing_stamp`), and the daily files while it stays the same."""
        self._given: OrderedDict[int, None] = OrderedDict()
        """Hashes of the entries returned last, oldest first."""
        for path in self._paths():
            stats = _stats_of(path)
            try:
                with closing(DayReader(path)) as day:
                    self._days[path.name] = _Followed(stats, day.identity, day.last_number(), day.furthest())
            except IndexUnavailable:
                continue

    def news(self, wanted: Filter) -> Iterator[Entry]:
        """Entries that match and were added since the last call. Those of a day that cannot be read come later."""
        for path in self._paths():
            known = self._days.setdefault(path.name, _Followed())
            stats = _stats_of(path)
            if stats is not None and stats == known.stats:
                continue
            try:
                yield from self._of(self._day(path, known), known, wanted)
            except IndexUnavailable:
                # The next call finds the file that takes its place.
                continue
            known.stats = stats

    def _paths(self) -> list[Path]:
        """The daily files. They are listed again only if the folder has changed: listing takes longer than a look."""
        stamp = layout.listing_stamp(self._folder)
        if stamp is None or stamp != self._listed[0]:
            self._listed = (stamp, layout.daily_paths(self._folder))
        return self._listed[1]

    def _of(self, day: DayReader, known: _Followed, wanted: Filter) -> Iterator[Entry]:
        size = PAGE
        while True:
            last, entries = day.news(wanted, known.last, size)
            for entry in entries:
                if self._is_news(entry, known):
                    yield entry
            if last == known.last:
                known.is_rebuilt = False
                return
            # Less after a page that ended early, as in `Index`.
            size = min(PAGE, 2 * (last - known.last))
            known.last = last

    def _is_news(self, entry: Entry, known: _Followed) -> bool:
        if known.is_rebuilt and entry.byte_offset <= known.furthest.get(entry.file_path, -1):
            return False
        # Without the columns that a later answer changes.
        key = hash((entry.file_path, entry.byte_offset, entry.timestamp, entry.event_type, entry.participating_agents))
        if key in self._given:
            return False
        self._given[key] = None
        if len(self._given) > MAX_REMEMBERED_ENTRIES:
            self._given.popitem(last=False)
        known.furthest[entry.file_path] = entry.byte_offset
        return True

    def _day(self, path: Path, known: _Followed) -> DayReader:
        """A daily file, open. One that has replaced another is followed from its first entry on."""
        day = self._open.current(path.name, DayReader.is_current)
        if day is None:
            day = self._open.add(path.name, DayReader(path))
        if known.identity != day.identity:
            known.is_rebuilt = known.identity is not None
            known.identity, known.last = day.identity, 0
        return day

    def close(self) -> None:
        """Close all files."""
        self._open.close()


def _stats_of(path: Path) -> tuple[FileStat | None, ...] | None:
    """The status of a daily file and its write-ahead log, which changes with every commit. None within the granularity
    of the file system's clock, in which a second commit would not show."""
    stats = layout.file_stamp(path)
    newest = max((stat.mtime_ns for stat in stats if stat is not None), default=0)
    return stats if time.time_ns() - newest > MTIME_GRANULARITY else None
