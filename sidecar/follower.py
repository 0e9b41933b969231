"""What came into the index since the last look, across days, restarts and rebuilds: each entry once."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from . import swap
from .errors import IndexUnavailable
from .reader import Day, Filter
from .records import Entry

PAGE = 1000

OPEN_DAYS = 16
"""Daily files kept open, those that changed last."""

REMEMBERED = 200_000
"""Entries given last that are known again: a sidecar that was killed writes those of the last second anew."""

SETTLED = 0.1
"""Seconds after which a file's time of change tells one change from the next."""

_Sign = tuple[int, ...]


@dataclass(slots=True)
class _Followed:
    """A day, and how far it was followed."""

    sign: _Sign | None = None
    """What its file looked like then: as long as it looks so, nobody has written."""
    last: int = 0
    """The number of the last entry that was given, or passed over at the start."""
    furthest: dict[str, int] = field(default_factory=dict)
    """How far that is in each log file: after a rebuild, which counts anew, only what lies beyond is news."""
    is_rebuilt: bool = False


class Follower:
    """Follows the daily files of an index folder. What is there when it is made is not news."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._days: dict[str, _Followed] = {}
        self._open: OrderedDict[str, Day] = OrderedDict()
        self._given: OrderedDict[int, None] = OrderedDict()
        """Hashes of the entries given last."""
        for path in swap.daily_paths(folder):
            sign = _sign(path)
            try:
                with closing(Day(path)) as day:
                    self._days[path.name] = _Followed(sign, day.last_number(), day.furthest())
            except IndexUnavailable:
                continue

    def news(self, wanted: Filter) -> Iterator[Entry]:
        """Entries that came since the last call and fit."""
        for path in swap.daily_paths(self._folder):
            known = self._days.setdefault(path.name, _Followed())
            sign = _sign(path)
            if sign is not None and known.sign == sign:
                continue
            try:
                day = self._day(path, known)
                yield from self._of(day, known, wanted)
            except IndexUnavailable:
                continue  # being replaced: the next look finds the one that takes its place
            known.sign = sign

    def _of(self, day: Day, known: _Followed, wanted: Filter) -> Iterator[Entry]:
        while True:
            last, entries = day.news(wanted, known.last, PAGE)
            for entry in entries:
                if self._is_news(entry, known):
                    yield entry
            if last == known.last:
                return
            known.last = last

    def _is_news(self, entry: Entry, known: _Followed) -> bool:
        furthest = known.furthest.get(entry.file_path, -1)
        if entry.byte_offset <= furthest and known.is_rebuilt:
            return False
        # Not `has_response` and `correlation_id`, which a later answer changes.
        identity = hash((entry.file_path, entry.byte_offset, entry.timestamp, entry.event_type, entry.conversation_id))
        if identity in self._given:
            return False
        self._given[identity] = None
        if len(self._given) > REMEMBERED:
            self._given.popitem(last=False)
        known.furthest[entry.file_path] = max(furthest, entry.byte_offset)
        return True

    def _day(self, path: Path, known: _Followed) -> Day:
        """A daily file, open; a new one, or one that was rebuilt, is followed from its first entry on."""
        day = self._open.pop(path.name, None)
        if day is not None and not day.is_current():
            day.close()
            day = None
        if day is None:
            day = Day(path)
            if known.sign is not None and known.inode != day.inode
        self._open[path.name] = day
        return day

    def close(self) -> None:
        """Close the files."""
        while self._open:
            self._open.popitem()[1].close()
