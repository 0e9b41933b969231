"""What came into the index since the last look, across days and through rebuilds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import swap
from .errors import IndexUnavailable
from .reader import Day, Filter
from .records import Entry

PAGE = 1000


@dataclass(slots=True)
class _Followed:
    """A daily file, and how far it was followed."""

    day: Day
    last: int
    """The number of the last entry that was given, or passed over at the start."""
    sign: tuple[int, ...] | None
    """What the file looked like then: as long as it looks so, nobody has written."""
    given: dict[str, int] | None = None
    """After a rebuild: up to which byte offset of each log file the entries were given before it."""


class Follower:
    """Follows the daily files of an index folder. What is there when it is made is not news."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._days: dict[str, _Followed] = {}
        for path in swap.daily_paths(folder):
            sign = _sign(path)
            day = _open(path)
            if day is not None:
                self._days[path.name] = _Followed(day, day.last_number(), sign)

    def news(self, wanted: Filter) -> Iterator[Entry]:
        """Entries that came since the last call and fit."""
        for path in swap.daily_paths(self._folder):
            known = self._days.get(path.name)
            sign = _sign(path)
            if known is not None and known.sign == sign:
                continue
            if known is None or not known.day.is_current():
                known = self._reopen(path, known)
                if known is None:
                    continue
            yield from self._of(known, wanted)
            known.sign = sign

    def _of(self, known: _Followed, wanted: Filter) -> Iterator[Entry]:
        while True:
            last, entries = known.day.news(wanted, known.last, PAGE)
            for entry in entries:
                if known.given is None or entry.byte_offset > known.given.get(entry.file_path, -1):
                    yield entry
            if last == known.last:
                return
            known.last = last

    def _reopen(self, path: Path, known: _Followed | None) -> _Followed | None:
        """A new day, or a rebuilt one, of which only what the old one did not have is news."""
        day = _open(path)
        if day is None:
            return None
        given = None
        if known is not None:
            given = known.given or {}
            given.update(known.day.furthest())
            known.day.close()
        self._days[path.name] = _Followed(day, 0, None, given)
        return self._days[path.name]

    def close(self) -> None:
        """Close the files."""
        for followed in self._days.values():
            followed.day.close()
        self._days = {}


def _open(path: Path) -> Day | None:
    try:
        return Day(path)
    except IndexUnavailable:
        return None


def _sign(path: Path) -> tuple[int, ...] | None:
    """Changes with every commit: the index of the write-ahead log counts them; without one, the file's own times."""
    try:
        with open(f"{path}-shm", "rb") as shared:
            head = shared.read(48)
        log = os.stat(f"{path}-wal")
        return (log.st_ino, int.from_bytes(head, "little"))
    except OSError:
        pass
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)
