"""From record to row: section 6 of the design, top to bottom. No I/O and no clock: the same bytes give the same rows.

`derive` is a fold over the records of one file. The state that it carries belongs to whoever folds; it is changed in
place, because a file may hold a million open requests and nobody wants a copy of them for every record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

from sidecar.records import Answered, Layout, Line, Record, Row
from sidecar.times import SECONDS_PER_DAY

from .linking import Request, RequestTable

UNKNOWN = "unknown"
"""The initiating agent of rows before the owner is known."""


_new = tuple.__new__
"""Makes a named tuple for a third of the price of calling its class; this is done a million times a second."""


@dataclass(slots=True)
class DerivationState:
    """What a file's next row depends on: everything before it, in brief."""

    layout: Layout
    stem: str
    """The file's name without its suffix: the session_id of a session file."""
    timestamp: float
    """Of the record before; before the first, that of an event file's name, else the file's modification time."""
    owner: str | None = None
    roles: dict[str, str] = field(default_factory=dict)
    new_roles: dict[str, str] = field(default_factory=dict)
    """Those of them that changed since the last save, so that saving the state costs what changed."""
    requests: RequestTable = field(default_factory=RequestTable)


def derive(state: DerivationState, line: Line, record: Record) -> tuple[Row, Answered | None]:
    """The row of this record, and the earlier request which this record answers, if there is one."""
    # Taken apart by position, which costs a third of asking for fifteen names. fmt: off
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
    ) = record
    # fmt: on
    byte_offset, line_number, data = line
    is_completion, is_request, is_answer, _ = kind
    if named_time is not None:
        state.timestamp = named_time
    timestamp = state.timestamp
    day = int(timestamp // SECONDS_PER_DAY)
    is_stream = state.layout == "stream"
    session_id = state.stem if state.layout == "session" else named_session or ""

    # Who speaks. The first record that is no answer and names its author makes that author the owner, for good.
    if named_author is not None:
        author: str | None = named_author
        if state.owner is None and not is_answer and not is_stream:
            state.owner = author
    else:
        author = None if is_answer else state.owner

    request = state.requests.answer(named_correlation, author) if is_answer else None

    participants = _participants(author, addressees, members, request)
    if new_role is not None and author is not None:
        state.roles[author] = state.new_roles[author] = new_role
    pattern = named_pattern or (request.pattern if request else _pattern(record))
    conversation = named_conversation or (request.conversation if request else session_id)
    correlation = named_correlation or (request.correlation if request else None)

    has_response = False
    if is_request:
        asked = (byte_offset, day, named_correlation, author, addressees, pattern, conversation, requests_response)
        has_response = state.requests.ask(_new(Request, asked))
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
        _speaker(author, request, is_answer) if is_stream else state.owner or UNKNOWN,
        participants,
        tuple([(agent, roles[agent]) for agent in participants if agent in roles]) if roles else (),
        pattern,
        conversation,
        correlation,
        is_completion,
        is_request,
        has_response,
        requests_response,
    )
    row = _new(Row, values)
    if request is None:
        return row, None
    return row, Answered(request.day, request.byte_offset, request.correlation)


def _speaker(author: str | None, request: Request | None, is_answer: bool) -> str:
    """The initiating agent of a record in a stream: for an answer the author of its request."""
    if is_answer:
        author = request.author if request else None
    return author or UNKNOWN


def _participants(
    author: str | None, addressees: tuple[str, ...], members: tuple[str, ...], request: Request | None
) -> tuple[str, ...]:
    """Author, addressees, members and, for an answer, the author of its request; nobody twice."""
    asker = request.author if request else None
    if not members and (asker is None or not addressees):  # as almost always
        others = addressees if asker is None else (asker,)
        if author is None:
            return others
        if author not in others:
            return (author, *others)
    named = (author, *addressees, *members, asker)
    return tuple(dict.fromkeys(agent for agent in named if agent is not None))


def _pattern(record: Record) -> str:
    if record.is_broadcast:
        return "broadcast"
    if record.has_team:
        return "team"
    if len(record.addressees) == 1:
        return "peer_to_peer"
    return "swarm" if record.addressees else "general"
