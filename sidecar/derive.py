"""From record to row: section 6 of the design, top to bottom. No I/O and no clock: the same bytes give the same rows.

`derive` is a fold over the records of one file. The state that it carries belongs to whoever folds; it is changed in
place, because a file may hold a million open requests and nobody wants a copy of them for every record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from zlib import crc32

from .linking import Request, Requests
from .records import Answered, Line, Record, Row

UNKNOWN = "unknown"
"""The initiating agent of rows before the owner is known."""

SECONDS_A_DAY = 86400

_new = tuple.__new__
"""Makes a named tuple for a third of the price of calling its class; this is done a million times a second."""

Layout = Literal["session", "stream", "file"]


@dataclass(slots=True)
class State:
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
    requests: Requests = field(default_factory=Requests)


def derive(state: State, line: Line, record: Record) -> tuple[Row, Answered | None]:
    """The row of this record, and the earlier request which this record answers, if there is one."""
    kind = record.kind
    if record.timestamp is not None:
        state.timestamp = record.timestamp
    timestamp = state.timestamp
    day = int(timestamp // SECONDS_A_DAY)
    session_id = state.stem if state.layout == "session" else record.session_id or ""
    author = _author(state, record)

    request: Request | None = None
    if kind.is_answer:
        request = state.requests.answer(record.correlation, author)

    participants = _participants(author, record, request)
    if record.new_role is not None and author is not None:
        state.roles[author] = state.new_roles[author] = record.new_role
    pattern = record.pattern or (request.pattern if request else _pattern(record))
    conversation = record.conversation or (request.conversation if request else session_id)
    correlation = record.correlation or (request.correlation if request else None)

    has_response = False
    if kind.is_request:
        asked = (
            line.byte_offset,
            day,
            record.correlation,
            author,
            record.addressees,
            pattern,
            conversation,
            record.requests_response,
        )
        has_response = state.requests.ask(_new(Request, asked))
    roles = state.roles
    values = (
        day,
        line.line_number,
        line.byte_offset,
        len(line.data),
        crc32(line.data),
        timestamp,
        record.event_type,
        session_id,
        author,
        _initiating_agent(state, author, request, kind.is_answer),
        participants,
        tuple([(agent, roles[agent]) for agent in participants if agent in roles]) if roles else (),
        pattern,
        conversation,
        correlation,
        kind.is_completion,
        kind.is_request,
        has_response,
        record.requests_response,
    )
    row = _new(Row, values)
    if request is None:
        return row, None
    return row, Answered(request.day, request.byte_offset, request.correlation)


def _author(state: State, record: Record) -> str | None:
    """Who speaks. The first record that is no answer and names its author makes that author the owner, for good."""
    if record.author is not None:
        if state.owner is None and not record.kind.is_answer and state.layout != "stream":
            state.owner = record.author
        return record.author
    return None if record.kind.is_answer else state.owner


def _initiating_agent(state: State, author: str | None, request: Request | None, is_answer: bool) -> str:
    if state.layout != "stream":
        return state.owner or UNKNOWN
    if is_answer:
        author = request.author if request else None
    return author or UNKNOWN


def _participants(author: str | None, record: Record, request: Request | None) -> tuple[str, ...]:
    """Author, addressees, members and, for an answer, the author of its request; nobody twice."""
    asker = request.author if request else None
    if not record.members and (asker is None or not record.addressees):  # as almost always
        others = record.addressees if asker is None else (asker,)
        if author is None:
            return others
        if author not in others:
            return (author, *others)
    named = (author, *record.addressees, *record.members, asker)
    return tuple(dict.fromkeys(agent for agent in named if agent is not None))


def _pattern(record: Record) -> str:
    if record.is_broadcast:
        return "broadcast"
    if record.has_team:
        return "team"
    if len(record.addressees) == 1:
        return "peer_to_peer"
    return "swarm" if record.addressees else "general"
