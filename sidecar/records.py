"""The values that travel between packages: bytes -> Line -> Record -> Row (into the index) and Entry (out of it).

All are immutable. Those of which there is one per log line are named tuples, the cheapest immutable values in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Layout = Literal["session", "stream", "file"]
"""How records lie in a file: one session per file, many sessions per file, or one record per file."""

TOO_LONG = "too-long"
NOT_UTF8 = "not-utf8"
"""The reasons for which lines are rejected before they are parsed."""


class Line(NamedTuple):
    """One line of a log file, or the whole of an event file."""

    byte_offset: int
    line_number: int
    """1-based."""
    data: bytes
    """Without its LF and its padding (`logs/padding.py`)."""


class Kind(NamedTuple):
    """What a format says about an event type."""

    is_completion: bool
    is_request: bool
    is_answer: bool
    skip: bool
    """Whether records of this type are counted but not indexed."""


class LogName(NamedTuple):
    """What a log is called."""

    path: str
    """Relative to the root, with `/`."""
    ids_begin: str
    """What comes before the byte offset in the ids of its entries: its session, or the stem of its path."""


class Record(NamedTuple):
    """What one line says by itself: the attributes of section 4 of docs/derivation.md.

    An absent id is None, an absent list empty.
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
    """Whether it has the status "completed"."""
    is_time_unreadable: bool = False
    """Whether it has a value where the time should be, but no time."""


class Rejected(NamedTuple):
    """A line that is not a record, and the reason: `not-json`, `not-object`, `no-event-type`, `torn`, `too-long`
    or `not-utf8`."""

    line_number: int
    byte_offset: int
    byte_length: int
    reason: str


class Row(NamedTuple):
    """What the index keeps of one record: section 7 of docs/derivation.md."""

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
    addressees: tuple[str, ...]
    initiating_agent: str
    participants: tuple[str, ...]
    roles: tuple[tuple[str, str], ...]
    pattern_type: str
    conversation_id: str
    correlation_id: str | None
    is_completion: bool
    is_request: bool
    requests_response: bool
    has_response: bool
    answered_after: float | None
    """For a request whose answer came before it: seconds from the request to that answer. None for all other records:
    if a request is answered later, that comes as `Answered`."""


class Answered(NamedTuple):
    """A request whose row was derived earlier, and that has now been answered."""

    day: int
    byte_offset: int
    correlation_id: str | None
    answered_after: float | None
    """Seconds from the request to its first answer in file order, by their timestamps."""


class _Checked:
    """What an entry has besides its fields, so that it is not in `fields`, `==` and `repr`."""

    __slots__ = ("checksum", "node")
    checksum: int
    """CRC-32 of the bytes that were indexed. Not set on entries that do not come from an index."""
    node: str | None
    """The machine that an entry comes from, if it comes from a hub; else None."""

    def __getattr__(self, name: str) -> Any:
        if name == "node":
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class Extent(NamedTuple):
    """Bytes of a log that are in the archive.

    The extents of a log follow each other without a gap. If the log continued after it was archived, its file begins
    where the last extent ends.
    """

    file: str
    """The archive file, relative to the archive folder."""
    at: int
    """The byte offset in the uncompressed content of the archive file."""
    size: int
    """In bytes."""
    lines: int
    sign: int
    """The fingerprint of the bytes."""


class Move(NamedTuple):
    """A log file whose content is in the archive now, so that the file can be deleted."""

    path: str
    looks: tuple[int, int, int, int]
    """The file's `fs.FileStat` when it was read: device, inode, size, modification time."""
    part: Extent
    """Where its bytes are now."""


class Compacted(NamedTuple):
    """A compact copy of a daily file, and the day's filter. Usable only if the daily file has not changed since."""

    day: str
    """`YYYY-MM-DD`."""
    copy: str
    """The path of the copy, relative to the index folder."""
    state: list[int]
    """The daily file's counters, sizes and times when the copy was made."""
    blocks: list[str]
    """The filter's blocks, each in base64."""


def archived_size(parts: tuple[Extent, ...]) -> int:
    """The number of bytes of a log that are in the archive, which is the offset at which its file begins."""
    return sum(part.size for part in parts)


@dataclass(frozen=True, slots=True)
class Entry(_Checked):
    """One record as the index has it: the reference's 17 columns, in their order, and three values more.

    An entry is a pointer, not the record: `Index.read(entry)` returns that. Section 7 of docs/derivation.md says how
    each column is derived.

        >>> entry = index.get("sess_discovery_123:666")
        >>> entry.event_type, entry.initiating_agent, entry.participating_agents
        ('completion:request', 'agent_researcher', ('agent_researcher', 'agent_nlp_1'))
        >>> entry.file_path, entry.line_number, entry.byte_offset
        ('responses/sessions/sess_discovery_123.jsonl', 4, 666)
        >>> entry.correlation_id, entry.has_response
        ('req_201', True)
    """

    id: str
    """`<file stem>:<byte_offset>`, or `<session>:<byte_offset>` if the path names the session. Unique, except among
    files with the same name in different folders."""
    timestamp: float
    """Seconds since 1970, UTC."""
    event_type: str
    session_id: str
    """Empty if the record belongs to no session."""
    file_path: str
    """The log, relative to the root, with `/`. Stays the same when the log is archived."""
    line_number: int
    """In the log, 1-based."""
    byte_offset: int
    """The 0-based position of the record's first byte in the log."""
    initiating_agent: str
    """The owner of the session; `unknown` if there is none."""
    participating_agents: tuple[str, ...]
    """The author, then the addressees, the members, and for an answer the author of its request; without repeats."""
    agent_roles: Mapping[str, str]
    """The roles after this record, by participant. Participants without a role are absent."""
    pattern_type: str
    """`peer_to_peer`, `team`, `broadcast`, `swarm`, `general`, or what the record calls it."""
    conversation_id: str
    """The id of the session if the record names no conversation."""
    correlation_id: str | None
    """Shared by a request and its answers."""
    is_completion: bool
    is_request: bool
    has_response: bool
    """Whether this is a request that has been answered, as far as its log has been read."""
    requests_response: bool
    """Whether this is a record that expects a response. If `has_response` is false, it is pending."""
    author: str | None = None
    """The agent that wrote the record; None if that is not known."""
    addressees: tuple[str, ...] = ()
    """The agents that the record is addressed to, which the other members of a team are not."""
    answered_after: float | None = None
    """For an answered request, the seconds from it to its first answer in file order, by their timestamps. Negative if
    the answer has the earlier timestamp. None for all other entries."""


REPLACED = "another file has its name"
TRUNCATED = "it was truncated"
REWRITTEN = "it was rewritten"
DROP_REASONS = (REPLACED, TRUNCATED, REWRITTEN)
"""The reasons for which the entries of a log are dropped."""


def whom(author: str | None, addressees: tuple[str, ...], participants: tuple[str, ...]) -> tuple[str, ...]:
    """Whom an entry went to: its addressees, or where it names none, whoever else takes part, such as the asker whom
    an answer reaches."""
    return addressees or tuple(one for one in participants if one != author)


class Dropped(NamedTuple):
    """Entries of a log that were dropped because the bytes that they point to are gone."""

    path: str
    reason: str
    """One of DROP_REASONS."""
    entries: int


class Report(NamedTuple):
    """The progress of a long job."""

    what: str
    """`indexing`, `rebuilding`, `comparing`, …"""
    done: int
    """Bytes of log so far."""
    total: int
    """Bytes of log in all."""
    entries: int
    """Entries so far."""


Reporter = Callable[[Report], None]
"""A function that is called with progress reports during a long job."""


SESSION_STATUSES = ("active", "completed")
"""What a session can be: completed as soon as a record says so."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session in the registry, as `Index.sessions` returns it.

    >>> next(index.sessions(status="completed"))
    Session(session_id='sess_team_456', initiating_agent='agent_lead', created_at=1735500300.0,
            pattern_type='team_formation', status='completed', lives_in='log')
    """

    session_id: str
    initiating_agent: str
    """Its owner; `unknown` if there is none."""
    created_at: float
    """The time of its first record, in seconds since 1970, UTC."""
    pattern_type: str
    """The pattern of its first record."""
    status: str
    """`active` or `completed`."""
    lives_in: str = "log"
    """Where its records are: `log`, `archive`, or `log, archive` if it was archived and then continued."""


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line of a log that is not a record, as `Index.rejected` returns it."""

    file_path: str
    """The log, relative to the root, with `/`."""
    line_number: int
    """1-based."""
    byte_offset: int
    byte_length: int
    """Without its LF."""
    reason: str
    """`not-json`, `not-object`, `no-event-type`, `torn`, `too-long` or `not-utf8`."""


@dataclass(frozen=True, slots=True)
class AgentSummary:
    """An agent and its activity, as `Index.agents` returns it.

    >>> index.agents()[0]
    AgentSummary(agent='agent_analyst', entries=7, first_timestamp=1735500299.5, last_timestamp=1735500910.0)
    """

    agent: str
    entries: int
    """The number of entries in which it takes part."""
    first_timestamp: float
    """Seconds since 1970, UTC."""
    last_timestamp: float
    """Seconds since 1970, UTC."""


class _Named:
    """A named tuple whose values can also be accessed by column name, like the rows of the reference's SQL."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        return getattr(self, key) if isinstance(key, str) else super().__getitem__(key)  # type: ignore[misc]

    def keys(self) -> tuple[str, ...]:
        """The column names, so that `dict(row)` works."""
        return self._fields  # type: ignore[attr-defined,no-any-return]


class _PeerInteraction(NamedTuple):
    id: str
    timestamp: float
    file_path: str
    line_number: int
    participating_agents: str


class PeerInteraction(_Named, _PeerInteraction):
    """A row of `Index.find_peer_interactions`. `participating_agents` is the text of a JSON array.

    >>> row = index.find_peer_interactions("agent_nlp_1", time_window="1000w")[0]
    >>> row.id, row["participating_agents"]
    ('sess_discovery_123:666', '["agent_researcher","agent_nlp_1"]')
    """

    __slots__ = ()


class _PendingRequest(NamedTuple):
    id: str
    timestamp: float
    initiating_agent: str
    file_path: str


class PendingRequest(_Named, _PendingRequest):
    """A row of `Index.find_pending_requests`.

    >>> dict(index.find_pending_requests(time_limit=None)[0])
    {'id': 'sess_discovery_123:901', 'timestamp': 1735500091.0, 'initiating_agent': 'agent_researcher',
     'file_path': 'responses/sessions/sess_discovery_123.jsonl'}
    """

    __slots__ = ()
