"""Who asked whom, and how it was answered: the graph's edges, and latency."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from sidecar.query.day_facts import DayFacts, of_each_day
from sidecar.query.index import Index
from sidecar.times import Time

from .statistics import quantile, wilson
from .values import Activity, By, Edge, Graph, Latency, Node

K = TypeVar("K")
Pair = tuple[str, str]
"""Author and addressee."""


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


@dataclass(frozen=True, slots=True)
class DayRequests:
    """One day's messages and requests."""

    counts: Mapping[Pair, int]
    """Entries by author and addressee."""
    pairs: Mapping[Pair, Answers]
    """Requests by author and addressee."""
    roles: Mapping[str | None, Answers]
    """Requests by the addressee's role then."""
    agents: Mapping[str, Answers]
    """Requests by addressee, whoever asked."""


def day_requests(day: DayFacts) -> DayRequests:
    """The messages and requests of a day."""
    counts: Counter[Pair] = Counter()
    for kind, party, entries in day.counts():
        author, addressees = day.speakers(kind, party)
        if author is not None:
            for one in addressees:
                counts[author, one] += entries
    pairs: defaultdict[Pair, Answers] = defaultdict(Answers)
    roles: defaultdict[str | None, Answers] = defaultdict(Answers)
    agents: defaultdict[str, Answers] = defaultdict(Answers)
    held = day.roles
    for step in day.steps(asking=True):
        author, addressees = day.speakers(step.kind, step.party)
        for one in addressees:
            if author is not None:
                pairs[author, one].add(step.has_response, step.answered_after)
            agents[one].add(step.has_response, step.answered_after)
            roles[held[step.roles].get(one)].add(step.has_response, step.answered_after)
    for kind, party, role_set in day.errors():
        author, addressees = day.speakers(kind, party)
        for one in addressees:
            if author is not None:
                pairs[author, one].errors += 1
            agents[one].errors += 1
            roles[held[role_set].get(one)].errors += 1
    return DayRequests(counts, pairs, roles, agents)


def merged(days: Iterable[Mapping[K, Answers]]) -> dict[K, Answers]:
    """The sum of the answers of all days."""
    found: defaultdict[K, Answers] = defaultdict(Answers)
    for day in days:
        for key, answers in day.items():
            found[key] += answers
    return found


def graph(index: Index, since: Time | None = None, until: Time | None = None) -> Graph:
    """Who talks to whom: an edge from the author to each addressee of the entries from `since` on and before `until`.

        >>> graph(index).edges[0]
        Edge(author='agent_analyst', addressee='agent_lead', count=1, asked=1, answered=1, pending=0)

    Raises BadTime, and the errors of `Index`.
    """
    days = of_each_day(index, day_requests, since, until)
    counts: Counter[Pair] = Counter()
    for day in days:
        for pair, count in day.counts.items():
            counts[pair] += count
    asked = merged(day.pairs for day in days)
    edges = [_edge(pair, count, asked.get(pair)) for pair, count in counts.items()]
    edges.sort(key=lambda edge: (-edge.count, edge.author, edge.addressee))
    return Graph(_nodes(edges), tuple(edges))


def _edge(pair: Pair, count: int, answers: Answers | None) -> Edge:
    asked, answered = (answers.asked, answers.answered) if answers else (0, 0)
    return Edge(*pair, count, asked, answered, asked - answered)


def _nodes(edges: Iterable[Edge]) -> tuple[Node, ...]:
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0] * 5)
    for edge in edges:
        sums[edge.author][0] += edge.count
        received = sums[edge.addressee]
        for place, number in enumerate((edge.count, edge.asked, edge.answered, edge.pending), 1):
            received[place] += number
    nodes = [Node(agent, *numbers) for agent, numbers in sums.items()]
    return tuple(sorted(nodes, key=lambda node: (-node.sent - node.received, node.agent)))


def latency(index: Index, since: Time | None = None, until: Time | None = None, by: By = "pair") -> tuple[Latency, ...]:
    """How requests were answered, in the order of the number of requests, most first; then by name.

    `by` is what the rows are: a `pair` (author and addressee), an `agent` (addressee, whoever asked), or a `role` (that
    the addressee had when it was asked).

        >>> latency(index, by="role")[-1].p50
        31.0

    Raises BadTime, and the errors of `Index`.
    """
    days = of_each_day(index, day_requests, since, until)
    rows: list[Latency]
    if by == "pair":
        rows = [_latency(*pair, answers) for pair, answers in merged(day.pairs for day in days).items()]
    elif by == "agent":
        rows = [_latency(None, agent, answers) for agent, answers in merged(day.agents for day in days).items()]
    else:
        rows = [_latency(None, role, answers) for role, answers in merged(day.roles for day in days).items()]
    return tuple(sorted(rows, key=lambda row: (-row.asked, row.asker or "", row.answerer or "")))


def _latency(asker: str | None, answerer: str | None, answers: Answers) -> Latency:
    times = sorted(answers.times)
    counts = (answers.asked, answers.answered, answers.errors)
    share = answers.answered / answers.asked
    ends = wilson(answers.answered, answers.asked)
    return Latency(asker, answerer, *counts, share, *ends, *(quantile(times, percent) for percent in (50, 90, 95, 99)))


def activity(
    index: Index, since: Time | None = None, until: Time | None = None, seconds: float = 3600.0
) -> tuple[Activity, ...]:
    """How much each agent said in each slice of `seconds`, in the order of time, then by name.

    Slices begin at multiples of `seconds` since 1970; those in which nothing was said are left out. Raises BadTime, and
    the errors of `Index`.
    """

    def of_day(day: DayFacts) -> list[tuple[int, str | None, int, int, int]]:
        return [
            (number, day.speakers(kind, party)[0], said, asked, waiting)
            for number, kind, party, said, asked, waiting in day.slices(seconds)
        ]

    sums: defaultdict[tuple[int, str | None], list[int]] = defaultdict(lambda: [0, 0, 0])
    for rows in of_each_day(index, of_day, since, until):
        for number, agent, *counts in rows:
            known = sums[number, agent]
            for place, count in enumerate(counts):
                known[place] += count
    found = [Activity(number * seconds, agent, *counts) for (number, agent), counts in sums.items()]
    return tuple(sorted(found, key=lambda one: (one.begin, one.agent or "")))


def extent(index: Index, since: Time | None = None, until: Time | None = None) -> tuple[float, float] | None:
    """The times of the first and the last entry; None if there is none. Raises BadTime, and the errors of `Index`."""
    ends = [end for end in of_each_day(index, DayFacts.extent, since, until) if end is not None]
    return (ends[0][0], ends[-1][1]) if ends else None
