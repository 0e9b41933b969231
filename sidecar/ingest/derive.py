"""Derive a row from a record, as `docs/derivation.md` says. No I/O and no clock: the same bytes yield the same rows.

`derive` is called for the records of one file, in order. The state that is carried from record to record belongs to the
caller and is changed in place, because a file may have a million open requests, too many to copy for every record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

from sidecar.records import Answered, Layout, Line, Record, Row
from sidecar.times import SECONDS_PER_DAY

from .linking import Request, RequestTable

UNKNOWN = "unknown"
"""The initiating agent of the rows that come before the owner is known."""


_new = tuple.__new__
"""Creates a named tuple at a third of the cost of calling its class."""


@dataclass(slots=True)
class DerivationState:
    """What the next row of a file depends on: a summary of the records before it."""

    layout: Layout
    ids_begin: str
    """What the ids of entries begin with: the session if the file is one, else the file's name without its suffix."""
    timestamp: float
    """The time of the previous record, in seconds since 1970. Before the first record: the time in an event file's
    name, or else the modification time that the file had when it was first seen."""
    session: str | None = None
    """The session_id of all records, if the file determines it: that of a session file, or the part `<session>` of the
    path."""
    names: dict[str, str] = field(default_factory=dict)
    """The named parts of the path, and the values of earlier records that the format keeps."""
    base: int = 0
    """The position in the log at which the file that is being read begins: the bytes of the earlier parts."""
    owner: str | None = None
    roles: dict[str, str] = field(default_factory=dict)
    new_roles: dict[str, str] = field(default_factory=dict)
    """The roles that changed since the last save, so that a save takes no longer than what changed."""
    requests: RequestTable = field(default_factory=RequestTable)
    untimed: list[tuple[int, bool]] = field(default_factory=list)
    """The byte offsets of the records that named no time, each with whether they named one that cannot be read. The
    caller counts them, and empties the list."""


def derive(state: DerivationState, line: Line, record: Record) -> tuple[Row, Answered | None]:
    """The row of a record, and the earlier request that the record answers, if there is one. Changes `state`."""
    # Unpacked by position, which costs a third of fifteen attribute lookups. fmt: off
    (
        event_type,
        kind,
        named_time,
        named_session,
        named_author,
        addressees,
        members,
        named_correlation,
        named_pattern,
        named_conversation,
        new_role,
        _,
        _,
        requests_response,
        _,
        is_time_unreadable,
    ) = record
    # fmt: on
    byte_offset, line_number, data = line
    is_completion, is_request, is_answer, _ = kind
    if named_time is not None:
        state.timestamp = named_time
    else:
        state.untimed.append((byte_offset, is_time_unreadable))
    timestamp = state.timestamp
    day = int(timestamp // SECONDS_PER_DAY)
    is_stream = state.layout == "stream"
    session_id = state.session or named_session or ""

    # The author of the first record that is not an answer and names its author becomes the owner, which never changes;
    # or the first addressee of an answer that comes before: who was answered had asked.
    if state.owner is None and not is_stream:
        state.owner = named_author if not is_answer else addressees[0] if addressees else None
    author = named_author or (None if is_answer else state.owner)

    request = state.requests.match_answer(named_correlation, author, timestamp) if is_answer else None

    participants = _participants(author, addressees, members, request)
    if new_role is not None and author is not None:
        state.roles[author] = state.new_roles[author] = new_role
    pattern = named_pattern or (request.pattern if request else _pattern(record))
    conversation = named_conversation or (request.conversation if request else session_id)
    correlation = named_correlation or (request.correlation if request else None)

    answered_after = None
    if is_request:
        # fmt: off
        fields = (
            byte_offset + state.base, day, named_correlation, author, addressees, pattern, conversation,
            requests_response, timestamp, None,
        )
        # fmt: on
        answered_after = state.requests.add_request(_new(Request, fields))
    roles = state.roles
    values = (
        day,
        line_number,
        byte_offset,
        len(data),
        crc32(data),
        timestamp,
        event_type,
        session_id,
        author,
        addressees,
        _initiator(author, request, is_answer) if is_stream else state.owner or UNKNOWN,
        participants,
        tuple([(agent, roles[agent]) for agent in participants if agent in roles]) if roles else (),
        pattern,
        conversation,
        correlation,
        is_completion,
        is_request,
        requests_response,
        answered_after is not None,
        answered_after,
    )
    row = _new(Row, values)
    if request is None:
        return row, None
    answered = (request.day, request.byte_offset, request.correlation, request.answered_after)
    return row, _new(Answered, answered)


def _initiator(author: str | None, request: Request | None, is_answer: bool) -> str:
    """The initiating agent of a record in a stream: its author, or for an answer the author of its request."""
    if is_answer:
        author = request.author if request else None
    return author or UNKNOWN


def _participants(
    author: str | None, addressees: tuple[str, ...], members: tuple[str, ...], request: Request | None
) -> tuple[str, ...]:
    """Author, addressees, members and, for an answer, the author of its request, without repeats."""
    requester = request.author if request else None
    # The usual case.
    if not members and (requester is None or not addressees):
        others = addressees if requester is None else (requester,)
        if author is None:
            return others
        if author not in others:
            return (author, *others)
    agents = (author, *addressees, *members, requester)
    return tuple(dict.fromkeys(agent for agent in agents if agent is not None))


def _pattern(record: Record) -> str:
    if record.is_broadcast:
        return "broadcast"
    if record.has_team:
        return "team"
    if len(record.addressees) == 1:
        return "peer_to_peer"
    return "swarm" if record.addressees else "general"
