"""The values that travel: bytes -> Line -> Record -> Row (into the index) and Entry (out of it).

All are immutable. Those that exist once a log line are named tuples, the cheapest frozen value that Python has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Layout = Literal["session", "stream", "file"]
"""How records lie in a file: one session a file, many a file, or one record a file."""

TOO_LONG = "too-long"
"""Why a line is rejected before anybody has parsed it."""


class Line(NamedTuple):
    """One line of a log file, or the whole of an event file."""

    byte_offset: int
    line_number: int
    """1-based."""
    data: bytes
    """Without its LF."""


class Kind(NamedTuple):
    """What a format says about an event type."""

    is_completion: bool
    is_request: bool
    is_answer: bool
    skip: bool
    """Records of this type are counted, and not indexed."""


class Record(NamedTuple):
    """What one line says: the attributes of the law of derivation, before any context.

    Absent ids are None; absent lists are empty.
    """

    event_type: str
    kind: Kind
    timestamp: float | None
    """Seconds since 1970, UTC."""
    session_id: str | None
    author: str | None
    addressees: tuple[str, ...]
    members: tuple[str, ...]
    correlation: str | None
    pattern: str | None
    conversation: str | None
    new_role: str | None
    has_team: bool
    is_broadcast: bool
    requests_response: bool
    is_completed: bool
    """Carries the status "completed"."""


class Rejected(NamedTuple):
    """A line that is no record, and why: `not-json`, `not-object`, `no-event-type` or `too-long`."""

    line_number: int
    byte_offset: int
    byte_length: int
    reason: str


class Row(NamedTuple):
    """What the index keeps of one record."""

    day: int
    """Days since 1970, UTC."""
    line_number: int
    byte_offset: int
    byte_length: int
    checksum: int
    """CRC-32 of the record's bytes."""
    timestamp: float
    event_type: str
    session_id: str
    author: str | None
    initiating_agent: str
    participants: tuple[str, ...]
    roles: tuple[tuple[str, str], ...]
    pattern_type: str
    conversation_id: str
    correlation_id: str | None
    is_completion: bool
    is_request: bool
    has_response: bool
    requests_response: bool


class Answered(NamedTuple):
    """A request, already derived, that an answer now belongs to."""

    day: int
    byte_offset: int
    correlation_id: str | None


class _Checked:
    """What an entry has beside its columns, so that nobody meets it who lists or compares these."""

    __slots__ = ("checksum",)
    checksum: int
    """Of the bytes that were indexed; not there where an entry was not made by the index."""


class Extent(NamedTuple):
    """Where some bytes of a log lie in the archive. The parts of a log follow each other without a gap, and what
    stands in the log file itself, if it went on after that, follows the last of them."""

    file: str
    """The archive file, relative to the archive folder."""
    at: int
    """Where they begin in its content."""
    size: int
    lines: int
    sign: int
    """Hash of the bytes."""


class Move(NamedTuple):
    """A log, or what it has beyond what is archived of it, that was archived and is to be deleted."""

    path: str
    looks: tuple[int, int, int, int]
    """Device, inode, size and modification time of its file when that was read."""
    part: Extent
    """Where the bytes are now."""


class Compacted(NamedTuple):
    """A day's file made anew, smaller, and what its filter says; as long as the day has not changed since."""

    day: str
    copy: str
    """The file, in the index folder."""
    state: list[int]
    """What the day's file looked like, from inside and from outside, when the copy was made."""
    blocks: list[str]
    """The filter's blocks, in base 64."""


def archived_size(parts: tuple[Extent, ...]) -> int:
    """Bytes of a log that lie in the archive, and so where its file begins."""
    return sum(part.size for part in parts)


@dataclass(frozen=True, slots=True)
class Entry(_Checked):
    """One record of the log as the index knows it: the reference's 17 columns, in their order."""

    id: str
    """`<file stem>:<byte_offset>`."""
    timestamp: float
    """Seconds since 1970, UTC."""
    event_type: str
    session_id: str
    file_path: str
    """Relative to the root, with `/`."""
    line_number: int
    """1-based."""
    byte_offset: int
    initiating_agent: str
    """The owner of the session."""
    participating_agents: tuple[str, ...]
    """The author first, then those spoken to, the members, and for an answer the author of its request."""
    agent_roles: Mapping[str, str]
    """The role that each participant held after this record."""
    pattern_type: str
    conversation_id: str
    correlation_id: str | None
    is_completion: bool
    is_request: bool
    has_response: bool
    requests_response: bool


class Report(NamedTuple):
    """How far some long work has come."""

    what: str
    """`indexing`, `rebuilding`, `comparing` …"""
    done: int
    total: int
    """Bytes of log."""
    entries: int


Reporter = Callable[[Report], None]
"""Called with reports while long work goes on."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session as the registry has it."""

    session_id: str
    initiating_agent: str
    created_at: float
    pattern_type: str
    status: str
    """`active` or `completed`."""
    lives_in: str = "log"
    """`log`, `archive`, or `log, archive` where it went on after it was archived."""


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line of a log that is no record, and why."""

    file_path: str
    line_number: int
    byte_offset: int
    byte_length: int
    reason: str


@dataclass(frozen=True, slots=True)
class AgentSummary:
    """An agent, and what there is of it."""

    agent: str
    entries: int
    first_timestamp: float
    last_timestamp: float


class _Named:
    """Gives a named tuple's values by key too, as rows of the reference's SQL do."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else super().__getitem__(key)  # type: ignore[misc]

    def keys(self) -> tuple[str, ...]:
        """The columns' names, so that `dict(row)` works."""
        return self._fields  # type: ignore[attr-defined,no-any-return]


class _PeerInteraction(NamedTuple):
    id: str
    timestamp: float
    file_path: str
    line_number: int
    participating_agents: str


class PeerInteraction(_Named, _PeerInteraction):
    """A row of the reference's `find_peer_interactions`; `participating_agents` is a JSON array."""

    __slots__ = ()


class _PendingRequest(NamedTuple):
    id: str
    timestamp: float
    initiating_agent: str
    file_path: str


class PendingRequest(_Named, _PendingRequest):
    """A row of the reference's `find_pending_requests`."""

    __slots__ = ()
