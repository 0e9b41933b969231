"""Brokers and communities, by networkx, which is imported only here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sidecar.errors import MissingExtra

Counts = Iterable[tuple[str, str, int]]
"""Edges: author, addressee, and the number of entries."""

SEED = 1
STRONGEST = 12
"""Edges of each agent on which betweenness is computed. On all edges it would take ten times as long, and most of them
carry little."""


def betweenness(edges: Counts) -> dict[str, float]:
    """See `Graph.betweenness`."""
    networkx = _networkx()
    weights = _weights(edges)
    neighbours: defaultdict[str, list[tuple[int, str, tuple[str, str]]]] = defaultdict(list)
    for pair, weight in weights.items():
        for one, other in (pair, pair[::-1]):
            neighbours[one].append((-weight, other, pair))
    kept = {pair for found in neighbours.values() for _, _, pair in sorted(found)[:STRONGEST]}
    graph = networkx.Graph()
    graph.add_nodes_from(sorted(neighbours))
    graph.add_edges_from(sorted(kept))
    return {agent: float(value) for agent, value in networkx.betweenness_centrality(graph).items()}


def communities(edges: Counts, agents: Sequence[str]) -> dict[str, int]:
    """See `Graph.communities`."""
    networkx = _networkx()
    graph = networkx.Graph()
    graph.add_nodes_from(sorted(agents))
    graph.add_weighted_edges_from((one, other, weight) for (one, other), weight in sorted(_weights(edges).items()))
    found = networkx.community.louvain_communities(graph, weight="weight", seed=SEED)
    ranked = sorted((sorted(members) for members in found), key=lambda members: (-len(members), members))
    return {agent: number for number, members in enumerate(ranked) for agent in members}


def _weights(edges: Counts) -> Counter[tuple[str, str]]:
    """The messages between each two agents, in both directions, the names in order."""
    weights: Counter[tuple[str, str]] = Counter()
    for author, addressee, count in edges:
        if author != addressee:
            one, other = sorted((author, addressee))
            weights[one, other] += count
    return weights


def _networkx() -> Any:
    try:
        import networkx
    except ImportError:
        raise MissingExtra("analyze", "networkx") from None
    return networkx
