"""Sums of each day, for the overview and the graph. Those of days that a span has as a whole are kept: by the time
somebody looks at a month, most of it has been summed up already.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from sys import getsizeof
from typing import TypeVar

from sidecar.analyze.answers import day_slices
from sidecar.analyze.role_use import day_changes, longest
from sidecar.query.day_facts import ASKS, DayFacts, of_each_day
from sidecar.query.index import Index
from sidecar.times import SECONDS_PER_DAY, day_number

from .desks import Kept, stamp
from .spans import TimeSpan

T = TypeVar("T")

KEPT_BYTES = 128 << 20
"""Roughly, of sums of days."""


@dataclass(slots=True)
class Exchange:
    """What one agent said to another, or (without an author) what an agent was asked by nobody known."""

    count: int = 0
    asked: int = 0
    answered: int = 0
    times: array[float] = field(default_factory=lambda: array("f"))
    """Seconds to the first answer of each answered request."""

    def __iadd__(self, other: Exchange) -> Exchange:
        self.count += other.count
        self.asked += other.asked
        self.answered += other.answered
        self.times.extend(other.times)
        return self


Pairs = dict[tuple[str, str], Exchange]
"""By author (empty if there is none) and addressee."""


@dataclass(slots=True)
class DayPairs:
    """The messages and requests of a day."""

    pairs: Pairs
    times: array[float]
    """Seconds to the first answer, once for each answered request."""

    @property
    def size(self) -> int:
        """Its bytes in memory, roughly."""
        return 400 * len(self.pairs) + getsizeof(self.times) + sum(4 * len(one.times) for one in self.pairs.values())


@dataclass(slots=True)
class DaySlices:
    """How much was said in each slice of a day."""

    rows: list[tuple[int, str, int, int, int]]
    """The number of the slice, counted from 1970; author (empty if there is none); entries; those that expect a
    response; those of them that have none."""

    @property
    def size(self) -> int:
        """Its bytes in memory, roughly."""
        return 160 * len(self.rows)


class Sums:
    """Sums of the days of an index. For all threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept = Kept(KEPT_BYTES)

    def pairs(self, index: Index, span: TimeSpan) -> tuple[Pairs, array[float]]:
        """Who said how much to whom, and the times to the first answer, each answered request once."""
        pairs: Pairs = defaultdict(Exchange)
        times: array[float] = array("f")
        for day in self._each(index, "pairs", _day_pairs, lambda day: day.size, span):
            for pair, one in day.pairs.items():
                pairs[pair] += one
            times.extend(day.times)
        return pairs, times

    def slices(self, index: Index, span: TimeSpan, seconds: int) -> Iterator[tuple[int, str, int, int, int]]:
        """How much each agent said in each slice of time: the rows of `DaySlices`. A slice that is longer than a day
        has several."""

        def question(day: DayFacts) -> DaySlices:
            return _day_slices(day, seconds)

        for day in self._each(index, ("slices", seconds), question, lambda day: day.size, span):
            yield from day.rows

    def main_roles(self, index: Index, span: TimeSpan) -> dict[str, str]:
        """The role that each agent held longest on the days of a span. Agents without a role are absent."""
        seconds: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        for held in self._each(index, "roles", _day_roles, lambda held: 120 * len(held), span.days):
            for (agent, role), longer in held.items():
                seconds[agent][role] += longer
        return longest(seconds)

    def _each(
        self,
        index: Index,
        key: Hashable,
        question: Callable[[DayFacts], T],
        size: Callable[[T], int],
        span: TimeSpan,
    ) -> Iterator[T]:
        """The answer of each day, from what is kept where the span has the day as a whole."""
        for name, *state in stamp(self._folder, span.since, span.until):
            begin = float(day_number(name.removesuffix(".db")) * SECONDS_PER_DAY)
            end = begin + SECONDS_PER_DAY
            is_whole = span.since <= begin and end <= span.until
            now = tuple(state)
            kept = self._kept.get((name, key), now) if is_whole else None
            if kept is not None:
                yield kept
                continue
            for answer in of_each_day(index, question, max(begin, span.since), min(end, span.until)):
                if is_whole:
                    self._kept.put((name, key), now, answer, size(answer))
                yield answer


def _day_pairs(day: DayFacts) -> DayPairs:
    pairs: Pairs = defaultdict(Exchange)
    times: array[float] = array("f")
    for kind, party, entries in day.counts("e.kind", "e.party"):
        author, addressees = day.speakers(kind, party)
        if author is not None:
            for one in addressees:
                pairs[author, one].count += entries
    for kind, party, has_response, seconds in day.rows("kind", "party", "has_response", "answered_after", term=ASKS):
        author, addressees = day.speakers(kind, party)
        for one in addressees:
            known = pairs[author or "", one]
            known.asked += 1
            known.answered += has_response
            if seconds is not None:
                known.times.append(seconds)
        if seconds is not None:
            times.append(seconds)
    return DayPairs(dict(pairs), times)


def _day_slices(day: DayFacts, seconds: int) -> DaySlices:
    found = day_slices(day, seconds)
    return DaySlices([(number, agent or "", *counts) for (number, agent), counts in found.items()])  # type: ignore[misc]


def _day_roles(day: DayFacts) -> dict[tuple[str, str], float]:
    """How long each agent held each role on a day, in seconds."""
    held: defaultdict[tuple[str, str], float] = defaultdict(float)
    changes, ends = day_changes(day)
    for (session, agent), seen in changes.items():
        for (begin, role), end in zip(seen, [*(moment for moment, _ in seen[1:]), ends[session]], strict=True):
            held[agent, role] += end - begin
    return dict(held)
