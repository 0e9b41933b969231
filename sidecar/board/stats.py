"""What the board has learned from the index: the entries seen so far, summed up for the screen."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from sidecar.records import Entry, whom

BUCKET_SECONDS = 0.5
"""Seconds for which one bar of the rate stands."""

RECENT_SECONDS = 2.0
"""Seconds over which the current rate and lag are measured."""


MAX_CHANGES, MAX_SHOWN_CHANGES = 100_000, 1000
"""Role changes that are kept, and those that are left when there are more."""
MAX_PAIRS = 100_000
"""Pairs of agents whose messages are counted."""


class RoleChange(NamedTuple):
    """An agent took another role."""

    timestamp: float
    agent: str
    before: str
    """Empty for the first role in a session."""
    after: str
    session: str
    conversation: str


class Lag(NamedTuple):
    """Seconds from a record's timestamp to the moment at which a query returned it."""

    p50: float
    p99: float
    worst: float


def spoken(entry: Entry) -> tuple[str, ...]:
    """Who spoke, a dash where nobody knows, and to whom: the addressees, else whoever else takes part."""
    author = "–" if entry.author is None else entry.author
    return (author, *whom(entry.author, entry.addressees, entry.participating_agents))


@dataclass
class BoardStats:
    """What has come into the index since `began`. Only the loop that draws touches it."""

    began: float
    total: int = 0
    begun: int = 0
    completed: int = 0
    """Sessions."""
    matrix: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of messages by sender and recipient."""
    changes: list[RoleChange] = field(default_factory=list)
    """In the order in which they came."""
    latest: deque[Entry] = field(default_factory=lambda: deque(maxlen=200))
    buckets: Counter[int] = field(default_factory=Counter)
    """Number of entries by the half second in which they became visible."""
    _lags: array[float] = field(default_factory=lambda: array("d"))
    _moments: array[float] = field(default_factory=lambda: array("d"))
    """When each entry became visible."""
    _lag_moments: array[float] = field(default_factory=lambda: array("d"))
    """When each entry in `_lags` became visible."""
    _roles: dict[tuple[str, str], str] = field(default_factory=dict)

    def take(self, entry: Entry, now: float) -> None:
        """Count an entry that became visible at `now`, unless it is older than the board."""
        if entry.timestamp >= self.began:
            self.add(entry, now)
            self._lags.append(max(0.0, now - entry.timestamp))
            self._lag_moments.append(now)

    def add(self, entry: Entry, now: float) -> None:
        """Count an entry that became visible at `now`, but not its lag."""
        self.buckets[int((now - self.began) / BUCKET_SECONDS)] += 1
        self._moments.append(now)
        self.recall(entry)

    def recall(self, entry: Entry) -> None:
        """Count an entry that was there before."""
        self.total += 1
        self.latest.append(entry)
        self.begun += entry.event_type == "session:created"
        self.completed += entry.event_type == "session:completed"
        author, *spoken_to = spoken(entry)
        for one in spoken_to:
            self.matrix[author, one] += 1
        if author in entry.agent_roles:
            self._role(entry, author, entry.agent_roles[author])

    def forget(self, before: float) -> None:
        """Let go of what nobody asks for any more, so that a board may stay open for months."""
        del self._moments[: bisect_left(self._moments, before)]
        first = bisect_left(self._lag_moments, before)
        del self._lag_moments[:first], self._lags[:first]
        for number in [number for number in self.buckets if number < (before - self.began) / BUCKET_SECONDS]:
            del self.buckets[number]
        if len(self.changes) > MAX_CHANGES:
            del self.changes[:-MAX_SHOWN_CHANGES]
        if len(self._roles) > MAX_CHANGES:
            self._roles.clear()
        if len(self.matrix) > MAX_PAIRS:
            self.matrix = Counter(dict(self.matrix.most_common(MAX_PAIRS // 2)))

    def _role(self, entry: Entry, author: str, role: str) -> None:
        before = self._roles.get((entry.session_id, author), "")
        if role != before:
            self._roles[entry.session_id, author] = role
            where = (entry.session_id, entry.conversation_id)
            self.changes.append(RoleChange(entry.timestamp, author, before, role, *where))

    def rate(self, now: float) -> float:
        """Entries per second over the last RECENT_SECONDS."""
        span = min(RECENT_SECONDS, max(now - self.began, 0.1))
        return (len(self._moments) - bisect_left(self._moments, now - span)) / span

    def lag(self, since: float | None = None) -> Lag | None:
        """The lag of all entries, or of those that became visible since a moment; None if there are none."""
        first = 0 if since is None else bisect_left(self._lag_moments, since)
        lags = sorted(self._lags[first:])
        if not lags:
            return None
        return Lag(lags[len(lags) // 2], lags[len(lags) * 99 // 100], lags[-1])

    def last_said(self, count: int) -> list[Entry]:
        """The latest entries in which an agent addresses another, latest first."""
        return list(islice((entry for entry in reversed(self.latest) if entry.is_completion), count))

    def spoke_lately(self, now: float) -> set[tuple[str, str]]:
        """Sender and recipient of each message of the last half second."""
        lately = [spoken(entry) for entry in self.latest if entry.timestamp > now - BUCKET_SECONDS]
        return {(who[0], other) for who in lately for other in who[1:]}

    def bars(self, now: float, count: int) -> list[int]:
        """The number of entries in each of the last complete half seconds, latest last."""
        end = int((now - self.began) / BUCKET_SECONDS)
        return [self.buckets[i] for i in range(max(0, end - count), end)]

    def table(self, most: int) -> tuple[list[str], int]:
        """The most active agents, sorted by name, and how many others there are."""
        counts: Counter[str] = Counter()
        for (author, other), count in self.matrix.items():
            counts[author] += count
            counts[other] += count
        return sorted(agent for agent, _ in counts.most_common(most)), max(0, len(counts) - most)

    def by_author(self) -> dict[str, dict[str, int]]:
        """The matrix, row by row."""
        rows: dict[str, dict[str, int]] = {}
        for (author, other), count in sorted(self.matrix.items()):
            rows.setdefault(author, {})[other] = count
        return rows

    def returned(self) -> RoleChange | None:
        """The last change back to a role that the agent had before in the same session; else the last change."""
        held: set[tuple[str, str, str]] = set()
        found = self.changes[-1] if self.changes else None
        for change in self.changes:
            if (change.session, change.agent, change.after) in held:
                found = change
            held.add((change.session, change.agent, change.after))
        return found
