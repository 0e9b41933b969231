"""What is odd about the times in logs: times that cannot be read, times in the future, and logs with very many days.

None of this is a fault of the index, which says what the logs say. But an entry of the year 9999 comes first in every
list of the latest, and each day that a log touches costs a file, so `status`, `run` and `doctor` report it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.errors import SidecarError
from sidecar.query.catalog_reader import CatalogReader, open_catalog
from sidecar.query.day_reader import DayReader
from sidecar.query.filters import Filter
from sidecar.store import layout
from sidecar.terminal import counted, size_text
from sidecar.times import day_of

from .result import CheckResult, listed

CLOCKS_DIFFER = 300.0
"""By how many seconds the clock of the machine that wrote a log may be ahead of this one's."""
VERY_MANY_DAYS = 100
"""A log is reported if it touches this many days, with fewer than FEW_ENTRIES per day on average."""
FEW_ENTRIES = 50


@dataclass(frozen=True, slots=True)
class TimeCounts:
    """Where the times of some entries came from."""

    own: int = 0
    """The number of entries that name their time."""
    inherited: int = 0
    """The number of entries that name no time and have that of the entry before them in the log."""
    file: int = 0
    """The number of entries that name no time and are the first of their log, so that they have the time in the file's
    name, or the file's modification time."""


@dataclass(frozen=True, slots=True)
class UnreadableTimes:
    """The entries whose time cannot be read. They have the time of another entry, or that of the file."""

    entries: int = 0
    """Their number."""
    logs: tuple[str, ...] = ()
    """The paths of their logs, relative to the root."""

    def __str__(self) -> str:
        times = "1 time" if self.entries == 1 else f"{self.entries:,} times"
        return f"{times} cannot be read, in {listed(self.logs)}: these entries have the time of what is before them"


@dataclass(frozen=True, slots=True)
class Times:
    """The result of `times_of`."""

    counts: TimeCounts = field(default_factory=TimeCounts)
    by_log: dict[str, TimeCounts] = field(default_factory=dict)
    """The same for each log, by path."""
    unreadable: UnreadableTimes = field(default_factory=UnreadableTimes)
    odd: tuple[str, ...] = ()
    """Sentences about what is odd; empty if nothing is."""


def times_of(folder: Path) -> Times:
    """What is known about the times in the index in a folder; nothing if it cannot be read."""
    with suppress(SidecarError, OSError), closing(open_catalog(folder)) as catalog:
        rows = catalog.times()
        by_log = {path: TimeCounts(*row[:3]) for path, row in rows.items()}
        counts = TimeCounts(*(sum(row[at] for row in rows.values()) for at in range(3)))
        faulty = {path: row[3] for path, row in sorted(rows.items()) if row[3]}
        unreadable = UnreadableTimes(sum(faulty.values()), tuple(faulty))
        odd = [str(unreadable)] if faulty else []
        # Other checks report a damaged day.
        with suppress(SidecarError, OSError):
            odd += _ahead(folder, catalog, time.time() + CLOCKS_DIFFER)
        return Times(counts, by_log, unreadable, tuple(odd))
    return Times()


def date_checks(folder: Path) -> Iterator[CheckResult]:
    """A warning about each oddity of the times in the index in a folder."""
    for sentence in times_of(folder).odd:
        advice = "look at such a record: the times may be in a zone (`time_zone` of the format) or form of their own"
        yield CheckResult("times", "warning", sentence, advice)
    if scattered := scattered_logs(folder):
        advice = "each day has a file of its own: correct the times at their source, or leave the log out of the glob"
        yield CheckResult("days", "warning", f"logs that touch very many days: {listed(scattered)}", advice)


def _ahead(folder: Path, catalog: CatalogReader, limit: float) -> Iterator[str]:
    """A sentence about the entries that are later than `limit`, in seconds since 1970."""
    later = [(f"{name}.db", first, count) for name, first, last, count in catalog.days() if last > limit]
    entries = sum(count for _, first, count in later if first > limit)
    files = {path.name: path for path in layout.daily_paths(folder)}
    furthest = None
    for name, first, _ in later:
        if name not in files or (first > limit and name != later[-1][0]):
            continue
        with closing(DayReader(files[name])) as day:
            entries += 0 if first > limit else day.count_after(limit)
            furthest = next(iter(day.page(Filter(), None, 1, reverse=True).entries), None)
    if entries and furthest is not None:
        what = "1 entry lies" if entries == 1 else f"{entries:,} entries lie"
        when = "" if day_of(limit) == day_of(furthest.timestamp) else f", up to {day_of(furthest.timestamp)}"
        yield f"{what} in the future{when}, the last in {furthest.file_path}"


def scattered_logs(folder: Path) -> list[str]:
    """A text for each log that touches very many days with few entries on each: its path, and what that costs."""
    days: Counter[str] = Counter()
    entries: dict[str, int] = {}
    paths: list[Path] = []
    with suppress(SidecarError, OSError), closing(open_catalog(folder)) as catalog:
        entries = {path: count for path, *_, count in catalog.sources() if count >= VERY_MANY_DAYS}
        names = [f"{day}.db" for day, _, _, _ in catalog.days()]
        if not entries or len(names) < VERY_MANY_DAYS:
            return []
        paths = layout.daily_paths(folder)
    sizes = 0
    for path in paths:
        with suppress(SidecarError, OSError), closing(DayReader(path)) as day:
            days.update(log for log in day.furthest() if log in entries)
            sizes += path.stat().st_size
    return [
        f"{path}: {counted(entries[path], 'entry', 'entries')} on {counted(count, 'day')}"
        f" (all days of the index: {size_text(sizes)})"
        for path, count in sorted(days.items())
        if count >= VERY_MANY_DAYS and entries[path] < FEW_ENTRIES * count
    ]
