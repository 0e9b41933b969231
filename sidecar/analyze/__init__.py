"""What the agents do, computed from the index: who talks to whom, how fast they answer, and what needs somebody now.

    from sidecar import Index, analyze

    with Index("var/logs") as index:
        for edge in analyze.graph(index, since="7d").edges:
            print(edge.author, edge.addressee, edge.count, edge.pending)

Every function takes an `Index`, and `since` and `until` as `Index.timeline` does. The values that they return are
frozen (`values.py`), and the same for the same data: nothing is random, and no clock shows. docs/analysis.md has the
definitions.

Here: definitions and statistics, over numbers that `sidecar.query.day_facts` reads. Not here: output, and anything that
writes. networkx (extra `analyze`) is needed for `Graph.betweenness` and `Graph.communities` alone.
"""

from .alarms import anomalies, silent, storms
from .circles import loops
from .conversations import process, teams
from .repeats import duplicates
from .requests import activity, extent, graph, latency
from .role_use import main_roles, role_spans, roles
from .sums import KeptSums, keep_sums
from .values import (
    Act,
    Activity,
    Anomalies,
    Duplicate,
    Edge,
    Follows,
    Graph,
    Latency,
    Loop,
    Node,
    Process,
    Roles,
    RoleSpan,
    RoleUse,
    Silent,
    Storm,
    Team,
    Transition,
    Variant,
)

__all__ = [
    "Act",
    "Activity",
    "Anomalies",
    "Duplicate",
    "Edge",
    "Follows",
    "Graph",
    "KeptSums",
    "Latency",
    "Loop",
    "Node",
    "Process",
    "RoleSpan",
    "RoleUse",
    "Roles",
    "Silent",
    "Storm",
    "Team",
    "Transition",
    "Variant",
    "activity",
    "anomalies",
    "duplicates",
    "extent",
    "graph",
    "keep_sums",
    "latency",
    "loops",
    "main_roles",
    "process",
    "role_spans",
    "roles",
    "silent",
    "storms",
    "teams",
]
