"""What the analysis returns. All values are frozen; times are seconds since 1970 (UTC), lengths of time seconds, shares
and odds from 0 to 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal


@dataclass(frozen=True, slots=True)
class Edge:
    """What one agent said to another: an entry counts for each of its addressees."""

    author: str
    addressee: str
    count: int
    """Entries."""
    asked: int
    """Those that expect a response."""
    answered: int
    """Those of `asked` that have one."""
    pending: int
    """Those of `asked` that have none."""


@dataclass(frozen=True, slots=True)
class Node:
    """An agent in the graph."""

    agent: str
    sent: int
    """Entries by it, one for each addressee: the sum of the counts of the edges that leave it."""
    received: int
    """Entries to it: the sum of the counts of the edges that arrive."""
    asked: int
    """Requests to it."""
    answered: int
    pending: int


@dataclass(frozen=True)
class Graph:
    """Who talks to whom."""

    nodes: tuple[Node, ...]
    """In the order of messages sent and received, most first; then by name."""
    edges: tuple[Edge, ...]
    """In the order of `count`, most first; then by author and addressee."""

    @cached_property
    def betweenness(self) -> Mapping[str, float]:
        """How much of the traffic would have to go through each agent: the share of shortest paths (in hops) between
        all others that lead through it, over each agent's 12 strongest edges. From 0 to 1; the same for the same graph.

        Raises MissingExtra without networkx.
        """
        from .structure import betweenness

        return betweenness(self._counts())

    @cached_property
    def communities(self) -> Mapping[str, int]:
        """The number of each agent's community, by Louvain's method, weighted by `count` in both directions, with seed
        1. The largest community is 0.

        Raises MissingExtra without networkx.
        """
        from .structure import communities

        return communities(self._counts(), [node.agent for node in self.nodes])

    def _counts(self) -> Iterator[tuple[str, str, int]]:
        return ((edge.author, edge.addressee, edge.count) for edge in self.edges)


@dataclass(frozen=True, slots=True)
class Latency:
    """How requests were answered. A request counts once for each addressee. One that waits counts in the share, and
    never in the times."""

    asker: str | None
    """Who asked; None unless the rows are pairs."""
    answerer: str | None
    """The addressee; its role at that time if the rows are roles, None for agents without a role."""
    asked: int
    answered: int
    errors: int
    """Those of `answered` whose first answer, on the day of the request, is an error: its event type ends with `error`,
    `failed` or `cancelled`."""
    share: float
    """`answered / asked`."""
    low: float
    """The ends of its Wilson 95 % interval."""
    high: float
    p50: float | None
    """Seconds to the first answer: one half of the answers came within this time. None if there is no answer."""
    p90: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Team:
    """Conversations with the same composition, and how their requests were answered."""

    members: tuple[str, ...]
    """Main roles, sorted, one for each participant; or the participants' names. An agent without a role stands with its
    name."""
    conversations: int
    entries: int
    asked: int
    """Requests, each counted once."""
    answered: int
    share: float
    """`answered / asked`."""
    low: float
    """The ends of its Wilson 95 % interval. Teams are ranked by the lower one."""
    high: float
    median: float | None
    """Seconds to the first answer. None if there is no answer."""
    median_low: float | None
    """The ends of the 95 % interval of the median, by order statistics."""
    median_high: float | None


@dataclass(frozen=True, slots=True)
class RoleSpan:
    """A role that an agent had in a session, without interruption."""

    agent: str
    session: str
    role: str
    since: float
    """When it first had the role."""
    until: float
    """When it first had another; if it had none, the time of the session's last entry."""
    is_over: bool
    """Whether another role followed. If not, the time is censored."""

    @property
    def seconds(self) -> float:
        """How long it was held."""
        return self.until - self.since


@dataclass(frozen=True, slots=True)
class Transition:
    """How often agents went from one role to another."""

    before: str
    after: str
    count: int
    share: float
    """Of all changes from `before`: an element of the Markov matrix."""


@dataclass(frozen=True, slots=True)
class RoleUse:
    """A role: how long it was held, and how requests to its holders were answered meanwhile."""

    role: str
    agents: int
    """Agents that held it."""
    spans: int
    """How often it was held: see `RoleSpan`."""
    censored: int
    """Those of `spans` that were not over."""
    seconds: float
    """In all."""
    dwell: float | None
    """The median of the spans that were over, in seconds; None if there are none."""
    asked: int
    """Requests to agents that had this role then, one for each of them."""
    answered: int
    share: float
    """`answered / asked`; 0 if nothing was asked."""
    low: float
    high: float
    p50: float | None
    """Seconds to the first answer, as in `Latency`."""
    p95: float | None


@dataclass(frozen=True, slots=True)
class Roles:
    """How roles were taken, held and given back."""

    uses: tuple[RoleUse, ...]
    """In the order of the time that each was held, longest first."""
    transitions: tuple[Transition, ...]
    """In the order of `count`, most first."""


@dataclass(frozen=True, slots=True)
class Act:
    """What happens in a process: an event by an author in a role."""

    event_type: str
    role: str | None
    """The author's role then; None if it had none, or if there is no author."""


@dataclass(frozen=True, slots=True)
class Follows:
    """How often one act directly followed another in a conversation."""

    before: Act
    after: Act
    count: int
    seconds: float
    """The mean time between them."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Conversations that went the same way."""

    id: str
    """16 hex digits, the same for the same steps."""
    steps: tuple[str, ...]
    """`author's role → addressees' roles`, repetitions left out; the first 50. `-` stands for no role."""
    length: int
    """The number of steps."""
    conversations: int
    example: str
    """The first of these conversations."""


@dataclass(frozen=True, slots=True)
class Process:
    """The ways that conversations take."""

    follows: tuple[Follows, ...]
    """In the order of `count`, most first."""
    variants: tuple[Variant, ...]
    """In the order of `conversations`, most first."""


@dataclass(frozen=True, slots=True)
class Loop:
    """Two to five agents that passed messages round and round, in the same order each time."""

    agents: tuple[str, ...]
    """Each speaks to the next, and the last to the first."""
    rounds: int
    """Whole rounds."""
    messages: int
    since: float
    """The time of the first of these messages."""
    until: float
    """The time of the last."""
    conversation: str
    ids: tuple[str, ...]
    """The ids of these messages."""


@dataclass(frozen=True, slots=True)
class Silent:
    """An agent that has stopped answering."""

    agent: str
    requests: int
    """Requests to it since its last word, none of them answered."""
    since: float
    """The time of its last word."""
    odds: float
    """How likely that is by its history: `(1 - share) ** requests`, and not less than 10^-12."""
    share: float
    """The share of requests that it answered before."""


@dataclass(frozen=True, slots=True)
class Storm:
    """Many requests to one agent in a short time that nobody answered."""

    agent: str
    requests: int
    peak: int
    """The most of them within ten minutes."""
    since: float
    """The time of the first of them."""
    until: float
    """The time of the last."""
    odds: float
    """How likely the peak is by the agent's own history of unanswered requests; not less than 10^-12."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same message, sent again and again. Confirmed by reading the records."""

    author: str
    addressees: tuple[str, ...]
    messages: int
    since: float
    until: float
    bytes: int
    """The length of each record."""
    conversation: str
    """That of the first message."""
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Anomalies:
    """What needs somebody now."""

    silent: tuple[Silent, ...] = ()
    storms: tuple[Storm, ...] = ()
    loops: tuple[Loop, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()


@dataclass(frozen=True, slots=True)
class Activity:
    """How much an agent said in a slice of time."""

    begin: float
    """Of the slice."""
    agent: str | None
    """The author; None for entries without one."""
    said: int
    """Entries."""
    asked: int
    """Those that expect a response."""
    waiting: int
    """Those of `asked` that have none."""


By = Literal["pair", "agent", "role"]
"""What the rows of `latency` are."""
TeamBy = Literal["roles", "agents"]
"""How teams are told apart."""
