"""The answers that are sums: overview, timeline and graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from sidecar.analyze.requests import graph_of
from sidecar.analyze.role_use import role_spans
from sidecar.analyze.statistics import quantile
from sidecar.analyze.values import Anomalies, Graph, Loop, Team
from sidecar.errors import MissingExtra
from sidecar.query.index import Index
from sidecar.records import whom

from .spans import TimeSpan
from .sums import Exchange, Pairs, Sums

SLICES = (1, 10, 60, 300, 900, 1800, 3600, 10800, 21600, 86400, 604800, 31 * 86400)
"""Lengths of a slice of time, in seconds."""
SPARKS = 48
"""Bars behind an agent."""
MOST_AGENTS = 60
"""Agents of an overview: those that said most."""
MOST_LANES = 200
MOST_MARKS = 4_000
"""Messages that a timeline draws one by one; of more, it draws how many there are."""
MOST_ROLE_SPANS = 6_000
ROLES_WITHIN = 3 * 86_400
"""Seconds of a timeline, at most, that has the roles below its lanes."""
MOST_EDGES = 4_000
MARK = (
    "id",
    "timestamp",
    "author",
    "addressees",
    "participating_agents",
    "event_type",
    "correlation_id",
    "conversation_id",
)
MARK_TYPES = ("is_request", "requests_response", "has_response")


def slice_of(span: TimeSpan, most: int) -> int:
    """The length of a slice, so that a span has at most so many of them."""
    return next((one for one in SLICES if span.seconds / one <= most), SLICES[-1])


def overview(index: Index, sums: Sums, span: TimeSpan, anomalies: Anomalies, teams: Sequence[Team]) -> dict[str, Any]:
    """The numbers of a span, beside those of the span before it."""
    seconds = slice_of(span, 200)
    series = Series(span, seconds)
    said: defaultdict[str, int] = defaultdict(int)
    sparks: defaultdict[str, list[int]] = defaultdict(lambda: [0] * SPARKS)
    for number, agent, *counts in sums.slices(index, span, seconds):
        series.add(number, counts)
        if agent:
            said[agent] += counts[0]
            moment = (number + 0.5) * seconds - span.since
            sparks[agent][min(SPARKS - 1, max(0, int(moment / span.seconds * SPARKS)))] += counts[0]
    pairs, times = sums.pairs(index, span)
    roles = sums.main_roles(index, span)
    asked = _by_addressee(pairs)
    names = sorted(said.keys() | asked.keys(), key=lambda name: (-said.get(name, 0), name))
    return {
        **span.ends(),
        **series.values(),
        **series.totals(),
        **_quantiles(times),
        "previous": _previous(index, sums, span.before),
        "agents": [
            {
                "id": name,
                "role": roles.get(name),
                "said": said.get(name, 0),
                **_answers(asked.get(name, Exchange())),
                "spark": sparks[name],
            }
            for name in names[:MOST_AGENTS]
        ],
        "agents_n": len(names),
        "teams": [team_object(team) for team in teams],
        "anomalies": anomaly_objects(anomalies, span.until),
        "extent": list(span.extent or ()),
    }


def _previous(index: Index, sums: Sums, span: TimeSpan) -> dict[str, Any]:
    if span.since < 0:
        return {}
    series = Series(span, SLICES[-1])
    seconds = slice_of(span, 200)
    for _, _, *counts in sums.slices(index, span, seconds):
        series.count(counts)
    return {**series.totals(), **_quantiles(sums.pairs(index, span)[1])}


class Series:
    """How much was said in each slice of a span."""

    def __init__(self, span: TimeSpan, seconds: int) -> None:
        self._first = int(span.since // seconds)
        self._seconds = seconds
        count = max(1, -int(-span.until // seconds) - self._first)
        self.said, self.asked, self.wait = ([0] * count for _ in range(3))
        self._totals = [0, 0, 0]

    def add(self, number: int, counts: Sequence[int]) -> None:
        """Count what was said in the slice of this number."""
        place = min(len(self.said) - 1, max(0, number - self._first))
        for series, more in zip((self.said, self.asked, self.wait), counts, strict=True):
            series[place] += more
        self.count(counts)

    def count(self, counts: Sequence[int]) -> None:
        """Count what was said at any time."""
        self._totals = [total + more for total, more in zip(self._totals, counts, strict=True)]

    def values(self) -> dict[str, Any]:
        """The series, the length of a slice in seconds, and where the first begins."""
        start = self._first * self._seconds
        return {"bucket": self._seconds, "start": start, "said": self.said, "asked": self.asked, "wait": self.wait}

    def totals(self) -> dict[str, int]:
        """The sums over the span."""
        messages, asked, waiting = self._totals
        return {"messages": messages, "asked_n": asked, "answered": asked - waiting, "pending": waiting}


def _by_addressee(pairs: Pairs) -> dict[str, Exchange]:
    found: defaultdict[str, Exchange] = defaultdict(Exchange)
    for (_, addressee), one in pairs.items():
        found[addressee] += one
    return found


def _answers(one: Exchange) -> dict[str, Any]:
    return {
        "asked": one.asked,
        "answered": one.answered,
        "pending": one.asked - one.answered,
        **_quantiles(one.times),
    }


def _quantiles(times: Iterable[float], names: tuple[str, str] = ("median", "p95")) -> dict[str, float | None]:
    ordered = sorted(times)
    found = (quantile(ordered, percent) for percent in (50, 95))
    return {name: None if seconds is None else round(seconds, 3) for name, seconds in zip(names, found, strict=True)}


def team_object(team: Team) -> dict[str, Any]:
    """A team, as it is sent."""
    return {
        "team": list(team.members),
        "conversations": team.conversations,
        "messages": team.entries,
        "asked": team.asked,
        "answered": team.answered,
        "share": team.share,
        "share_low": team.low,
        "share_high": team.high,
        "median": team.median,
        "median_low": team.median_low,
        "median_high": team.median_high,
    }


def anomaly_objects(found: Anomalies, now: float) -> list[dict[str, Any]]:
    """What needs somebody, as it is sent: each has `kind`, `agents`, `messages`, `since`, `until` and `conversation`
    (null where it is of none)."""
    none = {"conversation": None, "entry": None}
    objects: list[dict[str, Any]] = [
        {
            "kind": "silent",
            "agents": [one.agent],
            "messages": one.requests,
            "since": one.since,
            "until": now,
            "odds": one.odds,
            "share": one.share,
            **none,
        }
        for one in found.silent
    ]
    objects += (
        {
            "kind": "storm",
            "agents": [one.agent],
            "messages": one.requests,
            "peak": one.peak,
            "since": one.since,
            "until": one.until,
            "odds": one.odds,
            **none,
        }
        for one in found.storms
    )
    objects += ({**loop_object(one), "conversation": one.conversation, "entry": one.ids[0]} for one in found.loops)
    objects += (
        {
            "kind": "duplicates",
            "agents": [one.author, *one.addressees],
            "messages": one.messages,
            "bytes": one.bytes,
            "since": one.since,
            "until": one.until,
            "conversation": one.conversation,
            "entry": one.ids[0],
        }
        for one in found.duplicates
    )
    return objects[:100]


def loop_object(one: Loop) -> dict[str, Any]:
    """A loop, as it is sent."""
    return {
        "kind": "ping_pong" if len(one.agents) == 2 else "cycle",
        "agents": list(one.agents),
        "messages": one.messages,
        "rounds": one.rounds,
        "since": one.since,
        "until": one.until,
    }


# ---- timeline


def lanes(index: Index, sums: Sums, span: TimeSpan, anomalies: Anomalies) -> dict[str, Any]:
    """A lane for each agent: how much it said in each slice, or if there is little, each message."""
    seconds = slice_of(span, 400)
    first = int(span.since // seconds)
    rows = list(sums.slices(index, span, seconds))
    said: defaultdict[str, int] = defaultdict(int)
    for _, agent, count, _, _ in rows:
        said[agent] += count
    entries = sum(said.values())
    roles = sums.main_roles(index, span)
    marks = _marks(index, span) if entries <= MOST_MARKS else None
    for mark in marks or ():
        for one in whom(*mark[2:5]):
            said.setdefault(one, 0)
    named = [agent for agent in said if agent]
    chosen = sorted(named, key=lambda agent: (-said[agent], agent))[:MOST_LANES]
    chosen.sort(key=lambda agent: (roles.get(agent) or "~", agent))
    lane = {agent: place for place, agent in enumerate(chosen)}
    cells: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for number, agent, *counts in rows:
        if agent in lane:
            known = cells[lane[agent], max(0, number - first)]
            for place, count in enumerate(counts):
                known[place] += count
    return {
        **span.ends(),
        "bucket": seconds,
        "start": first * seconds,
        "agents": [{"id": agent, "role": roles.get(agent), "said": said[agent]} for agent in chosen],
        "agents_n": len(named),
        "cells": [[*place, *counts] for place, counts in sorted(cells.items())],
        "roles": _role_spans(index, span, lane),
        "marks": None if marks is None else [_placed(mark, lane) for mark in marks],
        "anomalies": [
            one
            for one in anomaly_objects(anomalies, span.until)
            if one["since"] < span.until and one["until"] >= span.since
        ],
        "entries": entries,
    }


def _marks(index: Index, span: TimeSpan) -> list[tuple[Any, ...]]:
    columns = [*MARK, *MARK_TYPES]
    return list(islice(index.timeline(span.since, span.until, columns=columns), MOST_MARKS))


def _placed(mark: tuple[Any, ...], lane: dict[str, int]) -> list[Any]:
    """A message: id, time, lanes of the author and of the addressees (-1 if there is none), event type, what it is
    (0: anything, 1: a request, 2: a request that waits), correlation and conversation."""
    (
        id_,
        moment,
        author,
        addressees,
        participants,
        event_type,
        correlation,
        conversation,
        is_request,
        expects,
        has_response,
    ) = mark
    what = 2 if expects and not has_response else 1 if is_request or expects else 0
    to = [lane.get(one, -1) for one in whom(author, addressees, participants)[:20]]
    return [id_, moment, lane.get(author or "", -1), to, event_type, what, correlation, conversation]


def _role_spans(index: Index, span: TimeSpan, lane: dict[str, int]) -> dict[str, list[list[Any]]]:
    if span.seconds > ROLES_WITHIN:
        return {}
    found: defaultdict[str, list[list[Any]]] = defaultdict(list)
    spans = (one for one in role_spans(index, span.since, span.until) if one.agent in lane)
    for one in islice(spans, MOST_ROLE_SPANS):
        found[one.agent].append([round(one.since, 3), round(one.until, 3), one.role])
    return found


# ---- graph


def graph(index: Index, sums: Sums, span: TimeSpan) -> dict[str, Any]:
    """Who talks to whom."""
    seconds = slice_of(span, 200)
    series = Series(span, seconds)
    for number, _, *counts in sums.slices(index, span, seconds):
        series.add(number, counts)
    pairs = {pair: one for pair, one in sums.pairs(index, span)[0].items() if pair[0] and one.count}
    roles = sums.main_roles(index, span)
    found = graph_of((pair, one.count, one.asked, one.answered) for pair, one in pairs.items())
    community, between = _structure(found)
    values = series.values()
    return {
        **span.ends(),
        "nodes": [
            {
                "id": node.agent,
                "role": roles.get(node.agent),
                "out": node.sent,
                "in": node.received,
                "asked": node.asked,
                "answered": node.answered,
                "community": community.get(node.agent),
                "betweenness": round(between.get(node.agent, 0.0), 4),
            }
            for node in found.nodes
        ],
        "edges": [
            {
                "a": edge.author,
                "b": edge.addressee,
                "n": edge.count,
                "asked": edge.asked,
                "answered": edge.answered,
                "pending": edge.pending,
                **_quantiles(pairs[edge.author, edge.addressee].times, ("p50", "p95")),
            }
            for edge in found.edges[:MOST_EDGES]
        ],
        "edges_n": len(found.edges),
        "bucket": values["bucket"],
        "start": values["start"],
        "said": values["said"],
    }


def _structure(found: Graph) -> tuple[dict[str, int], dict[str, float]]:
    """Communities and betweenness; empty without networkx."""
    try:
        return dict(found.communities), dict(found.betweenness)
    except MissingExtra:
        return {}, {}
