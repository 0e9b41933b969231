"""What the analysis prints with --json: one object for each value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidecar.analyze.values import (
        Anomalies,
        Duplicate,
        Edge,
        Graph,
        Latency,
        Loop,
        Process,
        Roles,
        Silent,
        Storm,
        Team,
    )

_Objects = Iterator[Mapping[str, Any]]


def edges(found: Graph) -> _Objects:
    """The edges of a graph."""
    return map(_edge, found.edges)


def _edge(one: Edge) -> Mapping[str, Any]:
    counts = {"count": one.count, "asked": one.asked, "answered": one.answered, "pending": one.pending}
    return {"from": one.author, "to": one.addressee, **counts}


def agents(found: Graph) -> _Objects:
    """The agents of a graph."""
    communities, betweenness = found.communities, found.betweenness
    for node in found.nodes:
        more = {"community": communities[node.agent], "betweenness": betweenness.get(node.agent, 0.0)}
        yield {**_fields(node), **more}


def latency(found: Iterable[Latency]) -> _Objects:
    """Rows of latency."""
    for one in found:
        fields = _fields(one)
        yield {"from": fields.pop("asker"), "to": fields.pop("answerer"), **fields}


def teams(found: Iterable[Team]) -> _Objects:
    """Teams."""
    for one in found:
        fields = _fields(one)
        yield {"team": fields.pop("members"), **fields}


def roles(found: Roles) -> _Objects:
    """First the roles, then the changes between them."""
    yield from map(_fields, found.uses)
    for one in found.transitions:
        yield {"from": one.before, "to": one.after, "count": one.count, "share": one.share}


def process(found: Process) -> _Objects:
    """First what follows what, then the variants."""
    for one in found.follows:
        yield {**_fields(one), "before": _fields(one.before), "after": _fields(one.after)}
    for way in found.variants:
        fields = _fields(way)
        yield {"variant": fields.pop("id"), **fields}


def loops(found: Iterable[Loop]) -> _Objects:
    """Loops."""
    return map(_fields, found)


def silent(found: Iterable[Silent]) -> _Objects:
    """Silent agents."""
    return map(_fields, found)


def storms(found: Iterable[Storm]) -> _Objects:
    """Storms."""
    return map(_fields, found)


def duplicates(found: Iterable[Duplicate]) -> _Objects:
    """Duplicates."""
    for one in found:
        fields = _fields(one)
        yield {"from": fields.pop("author"), "to": fields.pop("addressees"), **fields}


def anomalies(found: Anomalies) -> _Objects:
    """Everything that needs somebody, with its kind."""
    groups = (
        ("silent", silent(found.silent)),
        ("storm", storms(found.storms)),
        ("loop", loops(found.loops)),
        ("duplicate", duplicates(found.duplicates)),
    )
    for kind, objects in groups:
        for one in objects:
            yield {"kind": kind, **one}


def _fields(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}
