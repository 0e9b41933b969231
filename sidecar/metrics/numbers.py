"""What the metrics say: how the logs and the index are, and what the entries of each day add up to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from sidecar.config.settings import Settings
from sidecar.errors import SidecarError
from sidecar.fs import MTIME_GRANULARITY
from sidecar.guarded import GuardedFolder
from sidecar.health.status import status_of
from sidecar.query.catalog_reader import open_catalog
from sidecar.query.day_facts import DayFacts, of_each_day
from sidecar.query.index import Index
from sidecar.store.daily_schema import WAITS
from sidecar.store.layout import daily_paths, file_stamp
from sidecar.times import SECONDS_PER_DAY, day_number

BOUNDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
"""Ends of the classes of times to an answer, in seconds."""
SOURCE_STATES = ("ok", "behind", "archived", "missing", "wrong")
"""As in `health.status.SourceStatus`."""
REJECT_REASONS = ("not-json", "not-object", "no-event-type", "torn", "too-long", "not-utf8")
WATCH_MODES = ("inotify", "polling")
NO_AUTHOR = "unknown"
OTHERS = "other"
"""The name under which all agents are counted that have none of their own."""

_CLASS = " ".join(
    (
        "CASE WHEN e.answered_after IS NULL THEN -1",
        *(f"WHEN e.answered_after <= {bound} THEN {number}" for number, bound in enumerate(BOUNDS)),
        f"ELSE {len(BOUNDS)} END",
    )
)
# An answer may have an earlier timestamp than its request: it took no time.
_SECONDS = "TOTAL(MAX(0.0, COALESCE(e.answered_after, 0.0)))"


@dataclass(frozen=True, slots=True)
class IndexNumbers:
    """What the index holds."""

    entries: int
    days: int
    size: int
    """Bytes of all files in the index folder."""
    rejected: Mapping[str, int]
    """Rejected lines by reason."""


@dataclass(frozen=True, slots=True)
class HealthNumbers:
    """What `sidecar status` says."""

    is_healthy: bool
    lag: float
    """Seconds, as `lag_seconds` of `status`."""
    log_bytes: Mapping[str, int]
    """By where they went: `indexed`, `blank`, `rejected`, `skipped` or `waiting`."""
    sources: Mapping[str, int]
    """Logs by their state."""
    watching: str
    """`inotify` or `polling`; empty if no sidecar is running."""
    index: IndexNumbers | None
    """None if there is no index that can be read."""


@dataclass(frozen=True, slots=True)
class EntrySums:
    """What the entries of some days add up to."""

    pending: int = 0
    """Requests that wait for a response."""
    oldest: float | None = None
    """The time of the first of them, in seconds since 1970."""
    answers: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    """Answered requests by class of time to the answer; the last class is of those above all bounds."""
    seconds: float = 0.0
    """The sum of all times to an answer."""
    said: Mapping[str, int] = field(default_factory=dict)
    """Entries by author; only if agents were asked for."""
    asked: Mapping[str, int] = field(default_factory=dict)
    """Waiting requests by their first addressee; only if agents were asked for."""

    def __add__(self, other: EntrySums) -> EntrySums:
        moments = [moment for moment in (self.oldest, other.oldest) if moment is not None]
        return EntrySums(
            self.pending + other.pending,
            min(moments, default=None),
            tuple(map(sum, zip(self.answers, other.answers, strict=True))),
            self.seconds + other.seconds,
            Counter(self.said) + Counter(other.said),
            Counter(self.asked) + Counter(other.asked),
        )

    @property
    def cumulated(self) -> list[int]:
        """For each bound the number of answers that took at most so long, and last the number of all."""
        return list(accumulate(self.answers))

    def only(self, agents: int) -> EntrySums:
        """The same with this many agents, those with the most entries; the others are counted together."""
        names = sorted(self.said.keys() | self.asked.keys(), key=lambda name: (-self.said.get(name, 0), name))
        known = set(names[:agents])
        return EntrySums(
            *(self.pending, self.oldest, self.answers, self.seconds),
            *(_merged(counts, known) for counts in (self.said, self.asked)),
        )


def _merged(counts: Mapping[str, int], known: set[str]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for name, count in counts.items():
        found[name if name in known else OTHERS] += count
    return dict(found)


def health_numbers(settings: Settings) -> HealthNumbers:
    """Compare the logs with the index. Raises OSError if the system refuses even to look."""
    status = status_of(settings, sources=True)
    states = Counter(source.status for source in status.source_list)
    index = None
    with suppress(SidecarError), closing(open_catalog(settings.index_folder)) as catalog:
        days = catalog.days()
        rejected = {**dict.fromkeys(REJECT_REASONS, 0), **catalog.rejected_by_reason()}
        entries = sum(int(day[3]) for day in days)
        with GuardedFolder.open_to_read(settings.index_folder) as folder:
            index = IndexNumbers(entries, len(days), _size(folder), rejected)
    went = ("indexed", "blank", "rejected", "skipped", "waiting")
    return HealthNumbers(
        status.healthy,
        status.lag_seconds,
        {state: getattr(status.bytes, state) for state in went},
        {state: states[state] for state in SOURCE_STATES},
        status.watching if status.running is not None else "",
        index,
    )


def _size(folder: GuardedFolder) -> int:
    """The bytes of all files below a folder; those that go meanwhile are left out."""
    total = 0
    for name, is_folder in folder.entries():
        with suppress(OSError, SidecarError):
            if is_folder:
                with folder.folder(name) as below:
                    total += _size(below)
            else:
                total += folder.status_of(name).st_size
    return total


class DaySums:
    """The sums of each day, kept for as long as its file stays as it is. One thread touches this."""

    def __init__(self, *, agents: bool) -> None:
        """`agents`: whether to count by agent as well."""
        self._agents = agents
        self._kept: dict[str, tuple[object, EntrySums]] = {}

    def total(self, index: Index, folder: Path) -> EntrySums:
        """The sum of all days of an index, whose folder is given. Only days whose files have changed are read.

        Raises the errors of `Index`.
        """
        kept: dict[str, tuple[object, EntrySums]] = {}
        sums = EntrySums()
        for path in daily_paths(folder):
            stamp = _settled_stamp(path)
            known = self._kept.get(path.stem)
            if known is None or stamp is None or known[0] != stamp:
                begin = float(day_number(path.stem) * SECONDS_PER_DAY)
                found = of_each_day(index, self._of_day, begin, begin + SECONDS_PER_DAY)
                known = (stamp, sum(found, EntrySums()))
            kept[path.stem] = known
            sums += known[1]
        self._kept = kept
        return sums

    def _of_day(self, day: DayFacts) -> EntrySums:
        answers = [0] * (len(BOUNDS) + 2)
        for number, count in day.counts(_CLASS):
            answers[number] += count
        seconds = sum(total for _, total in day.counts("e.requests_response", what=_SECONDS, moment=True))
        said: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        pending, oldest = 0, None
        for moment, kind, party in day.rows("timestamp", "kind", "party", term=WAITS):
            pending += 1
            oldest = moment if oldest is None else min(oldest, moment)
            if self._agents:
                asked[next(iter(day.speakers(kind, party)[1]), NO_AUTHOR)] += 1
        if self._agents:
            for kind, party, count in day.counts("e.kind", "e.party"):
                said[day.speakers(kind, party)[0] or NO_AUTHOR] += count
        # The class of number -1, the last place of the list, is of entries that are no answered request.
        return EntrySums(pending, oldest, tuple(answers[:-1]), seconds, said, asked)


def _settled_stamp(path: Path) -> object:
    """The looks of a daily file and its write-ahead log; None if they changed a moment ago, because another change in
    the same moment would not show."""
    stamp = file_stamp(path)
    last = max((file.mtime_ns for file in stamp if file is not None), default=0)
    return None if time.time_ns() - last < MTIME_GRANULARITY else stamp
