"""Who asked whom, and how it was answered: the graph's edges, and latency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sidecar.errors import SidecarError
from sidecar.query.day_facts import DayFacts, of_each_day
from sidecar.query.index import Index
from sidecar.times import Time

from .answers import Answers, Counts, Pair, day_slices, merged
from .statistics import quantile, wilson
from .sums import agents_of_days, edges_of_days, pairs_of_days, roles_of_days
from .values import Activity, By, Edge, Graph, Latency, Node


def graph(index: Index, since: Time | None = None, until: Time | None = None) -> Graph:
    """Who talks to whom: an edge from the author to each addressee of the entries from `since` on and before `until`.

        >>> graph(index).edges[0]
        Edge(author='agent_analyst', addressee='agent_lead', count=1, asked=1, answered=1, pending=0)

    Raises BadTime, and the errors of `Index`.
    """
    sums: dict[Pair, Counts] = {}
    for day in edges_of_days(index, since, until):
        for pair, of_day in day.items():
            known = sums.get(pair)
            if known is None:
                sums[pair] = [*of_day]
            else:
                known[0] += of_day[0]
                known[1] += of_day[1]
                known[2] += of_day[2]
    return graph_of((pair, count, asked, answered) for pair, (count, asked, answered) in sums.items())


def graph_of(sums: Iterable[tuple[Pair, int, int, int]]) -> Graph:
    """The graph of some pairs of author and addressee, each with its entries, the requests among them, and those that
    were answered."""
    edges = [Edge(*pair, count, asked, answered, asked - answered) for pair, count, asked, answered in sums]
    edges.sort(key=lambda edge: (-edge.count, edge.author, edge.addressee))
    return Graph(_nodes(edges), tuple(edges))


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
    rows: list[Latency]
    if by not in ("pair", "agent", "role"):
        raise SidecarError(f"by: {by!r} is none of 'pair', 'agent' and 'role'")
    if by == "pair":
        pairs = merged(pairs_of_days(index, since, until))
        rows = [_latency(*pair, answers) for pair, answers in pairs.items()]
    elif by == "agent":
        agents = merged(agents_of_days(index, since, until))
        rows = [_latency(None, agent, answers) for agent, answers in agents.items()]
    else:
        roles = merged(roles_of_days(index, since, until))
        rows = [_latency(None, role, answers) for role, answers in roles.items()]
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

    sums: defaultdict[tuple[int, str | None], list[int]] = defaultdict(lambda: [0, 0, 0])
    for day in of_each_day(index, lambda day: day_slices(day, seconds), since, until):
        for key, counts in day.items():
            sums[key] = [known + more for known, more in zip(sums[key], counts, strict=True)]
    found = [Activity(number * seconds, agent, *counts) for (number, agent), counts in sums.items()]
    return tuple(sorted(found, key=lambda one: (one.begin, one.agent or "")))


def extent(index: Index, since: Time | None = None, until: Time | None = None) -> tuple[float, float] | None:
    """The times of the first and the last entry; None if there is none. Raises BadTime, and the errors of `Index`."""
    ends = [end for end in of_each_day(index, DayFacts.extent, since, until) if end is not None]
    return (ends[0][0], ends[-1][1]) if ends else None
