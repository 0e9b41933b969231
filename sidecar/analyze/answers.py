"""Messages and requests of one day, counted: what graph and latency are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from sidecar.query.day_facts import ASKS, DayFacts

K = TypeVar("K")
Pair = tuple[str, str]
"""Author and addressee."""
Counts = list[int]
"""Of an edge: entries, requests among them, and those that were answered."""
_REQUEST = ("kind", "party", "has_response", "answered_after")


@dataclass(slots=True)
class Answers:
    """How some requests were answered."""

    asked: int = 0
    answered: int = 0
    errors: int = 0
    times: list[float] = field(default_factory=list)
    """Seconds to the first answer of each that has one."""

    def add(self, has_response: int, seconds: float | None) -> None:
        """Count a request."""
        self.asked += 1
        if has_response:
            self.answered += 1
            if seconds is not None:
                self.times.append(seconds)

    def __iadd__(self, other: Answers) -> Answers:
        self.asked += other.asked
        self.answered += other.answered
        self.errors += other.errors
        self.times += other.times
        return self


def day_edges(day: DayFacts) -> dict[Pair, Counts]:
    """For each author and addressee: entries, requests among them, and those that were answered."""
    sums: dict[Pair, Counts] = {}
    columns = ("e.kind", "e.party", "e.requests_response", "e.has_response")
    for kind, party, asks, has_response, count in day.counts(*columns):
        author, addressees = day.speakers(kind, party)
        if author is not None:
            for one in addressees:
                known = sums.get((author, one))
                if known is None:
                    known = sums[author, one] = [0, 0, 0]
                known[0] += count
                if asks:
                    known[1] += count
                    known[2] += count if has_response else 0
    return sums


def day_slices(day: DayFacts, seconds: float) -> dict[tuple[int, str | None], list[int]]:
    """For each slice of time (its number, counted from 1970) and author: entries, those that expect a response, and
    those of them that have none."""
    number = f"CAST(e.timestamp / {float(seconds)!r} AS INTEGER)"
    sums: defaultdict[tuple[int, str | None], list[int]] = defaultdict(lambda: [0, 0, 0])
    for at, kind, party, asks, has_response, count in day.counts(
        number, "e.kind", "e.party", "e.requests_response", "e.has_response"
    ):
        known = sums[at, day.speakers(kind, party)[0]]
        known[0] += count
        if asks:
            known[1] += count
            known[2] += 0 if has_response else count
    return dict(sums)


def day_pairs(day: DayFacts) -> dict[Pair, Answers]:
    """The requests of a day by author and addressee."""
    found: defaultdict[Pair, Answers] = defaultdict(Answers)
    for kind, party, has_response, seconds in day.rows(*_REQUEST, term=ASKS):
        author, addressees = day.speakers(kind, party)
        if author is not None:
            for one in addressees:
                found[author, one].add(has_response, seconds)
    for kind, party, _ in day.errors():
        author, addressees = day.speakers(kind, party)
        if author is not None:
            for one in addressees:
                found[author, one].errors += 1
    return found


def day_agents(day: DayFacts) -> dict[str, Answers]:
    """The requests of a day by addressee, whoever asked."""
    found: defaultdict[str, Answers] = defaultdict(Answers)
    for kind, party, has_response, seconds in day.rows(*_REQUEST, term=ASKS):
        for one in day.speakers(kind, party)[1]:
            found[one].add(has_response, seconds)
    for kind, party, _ in day.errors():
        for one in day.speakers(kind, party)[1]:
            found[one].errors += 1
    return found


def day_roles(day: DayFacts) -> dict[str | None, Answers]:
    """The requests of a day by the role that the addressee had when it was asked."""
    found: defaultdict[str | None, Answers] = defaultdict(Answers)
    held = day.roles
    for kind, party, has_response, seconds, roles in day.rows(*_REQUEST, "roles", term=ASKS):
        for one in day.speakers(kind, party)[1]:
            found[held[roles].get(one)].add(has_response, seconds)
    for kind, party, roles in day.errors():
        for one in day.speakers(kind, party)[1]:
            found[held[roles].get(one)].errors += 1
    return found


def merged(days: Iterable[Mapping[K, Answers]]) -> dict[K, Answers]:
    """The sum of the answers of all days."""
    found: defaultdict[K, Answers] = defaultdict(Answers)
    for day in days:
        for key, answers in day.items():
            found[key] += answers
    return found
