"""What came into the index since the last look, across days, restarts and rebuilds: each entry once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.errors import IndexUnavailable
from sidecar.fs import MTIME_GRANULARITY, FileStat, OpenFiles, try_file_stat
from sidecar.records import Entry
from sidecar.store import layout

from .day_reader import DayReader, Filter

PAGE = 1000

MAX_OPEN_FOLLOWED = 16
"""Daily files kept open: those that changed last."""

MAX_REMEMBERED_ENTRIES = 200_000
"""Entries given last that are known again: after a kill, those since the last checkpoint are written anew."""


@dataclass(slots=True)
class _Followed:
    """A day, and how far it was followed."""

    stats: tuple[FileStat | None, ...] | None = None
    """Its file and write-ahead log then: while they are the same, nobody has written."""
    identity: tuple[int, int] | None = None
    """Which file that was."""
    last: int = 0
    """The number of the last entry that was given, or passed over at the start."""
    furthest: dict[str, int] = field(default_factory=dict)
    """Where that was in each log file."""
    is_rebuilt: bool = False
    """The file is another one, which numbers its entries anew: only what lies further is news, until the end of it."""


class Follower:
    """Follows the daily files of an index folder. What is there when it is made is not news."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._days: dict[str, _Followed] = {}
        self._open: OpenFiles[str, DayReader] = OpenFiles(MAX_OPEN_FOLLOWED)
        self._given: OrderedDict[int, None] = OrderedDict()
        """Hashes of the entries given last."""
        for path in layout.daily_paths(folder):
            stats = _stats_of(path)
            try:
                with closing(DayReader(path)) as day:
                    self._days[path.name] = _Followed(stats, day.identity, day.last_number(), day.furthest())
            except IndexUnavailable:
                continue

    def news(self, wanted: Filter) -> Iterator[Entry]:
        """Entries that came since the last call and fit."""
        for path in layout.daily_paths(self._folder):
            known = self._days.setdefault(path.name, _Followed())
            stats = _stats_of(path)
            if stats is not None and stats == known.stats:
                continue
            try:
                yield from self._of(self._day(path, known), known, wanted)
            except IndexUnavailable:
                continue  # the next look finds what takes its place
            known.stats = stats

    def _of(self, day: DayReader, known: _Followed, wanted: Filter) -> Iterator[Entry]:
        while True:
            last, entries = day.news(wanted, known.last, PAGE)
            for entry in entries:
                if self._is_news(entry, known):
                    yield entry
            if last == known.last:
                known.is_rebuilt = False
                return
            known.last = last

    def _is_news(self, entry: Entry, known: _Followed) -> bool:
        if known.is_rebuilt and entry.byte_offset <= known.furthest.get(entry.file_path, -1):
            return False
        # By what no later answer changes.
        key = hash((entry.file_path, entry.byte_offset, entry.timestamp, entry.event_type, entry.participating_agents))
        if key in self._given:
            return False
        self._given[key] = None
        if len(self._given) > MAX_REMEMBERED_ENTRIES:
            self._given.popitem(last=False)
        known.furthest[entry.file_path] = entry.byte_offset
        return True

    def _day(self, path: Path, known: _Followed) -> DayReader:
        """A daily file, open; one that took the place of another is followed from its first entry on."""
        day = self._open.current(path.name, DayReader.is_current)
        if day is None:
            day = self._open.add(path.name, DayReader(path))
        if known.identity != day.identity:
            known.is_rebuilt = known.identity is not None
            known.identity, known.last = day.identity, 0
        return day

    def close(self) -> None:
        """Close the files."""
        self._open.close()


def _stats_of(path: Path) -> tuple[FileStat | None, ...] | None:
    """A daily file and its write-ahead log, which change with every commit; None where a commit may hide behind the one
    before.

    Only looked at from outside: whoever opens a file of SQLite's and closes it again loses the locks that this process
    has on it.
    """
    stats = (try_file_stat(path), try_file_stat(f"{path}-wal"))
    newest = max((stat.mtime_ns for stat in stats if stat is not None), default=0)
    return stats if time.time_ns() - newest > MTIME_GRANULARITY else None
