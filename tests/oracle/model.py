"""The law of derivation (`docs/derivation.md`) as a plain model, for the reference format only.

It is written from the text alone and shares nothing with the package, so that the two readings can be held against each
other. Here a record becomes a row; `reading` has the lines, `moments` the times, `linking` the answers, `logs` what
several files make together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from oracle.linking import Links, Request
from oracle.moments import day, moment, plausible
from oracle.reading import Piece, Reader
from oracle.rules import MAIN, Rules
from oracle.values import add, at, first_of, text

UNKNOWN = "unknown"
LAYOUTS = ("session", "stream", "file")

COLUMNS = (
    "id",
    "timestamp",
    "event_type",
    "session_id",
    "file_path",
    "line_number",
    "byte_offset",
    "initiating_agent",
    "participating_agents",
    "agent_roles",
    "pattern_type",
    "conversation_id",
    "correlation_id",
    "is_completion",
    "is_request",
    "has_response",
    "requests_response",
)
"""Of the view."""
FIELDS = (*COLUMNS, "author", "addressees", "answered_after")
"""Of an entry."""


@dataclass(frozen=True)
class LogFile:
    """A file to read; `path` is relative to the root. `settled`: unchanged for a minute. `session` is the stem of the
    log, where the file is an earlier part of it."""

    path: str
    content: bytes
    mtime: float
    layout: str = "session"
    settled: bool = False
    session: str = ""

    @property
    def stem(self) -> str:
        return PurePosixPath(self.path).stem


@dataclass
class ModelFile:
    """What the law says of one file. `times` counts where the times of its rows came from."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[tuple[int, int, int, str]] = field(default_factory=list)
    bytes: dict[str, int] = field(
        default_factory=lambda: {"indexed": 0, "blank": 0, "rejected": 0, "skipped": 0, "waiting": 0}
    )
    completed_sessions: set[str] = field(default_factory=set)
    repaired: int = 0
    times: dict[str, int] = field(default_factory=lambda: {"own": 0, "inherited": 0, "file": 0})


@dataclass
class State:
    """What is carried from record to record of one log."""

    owner: str | None = None
    timestamp: float | None = None
    roles: dict[str, str] = field(default_factory=dict)
    links: Links = field(default_factory=Links)
    records: int = 0


def model_file(
    content: bytes,
    *,
    path: str,
    layout: str,
    mtime: float,
    max_line_bytes: int = 16 * 2**20,
    settled: bool = False,
    rules: Rules = MAIN,
) -> ModelFile:
    """Read a whole file as the law has it; `path` is relative to the root. `settled`: unchanged for a minute."""
    file = LogFile(path, content, mtime, layout, settled)
    return model_log([file], State(), max_line_bytes=max_line_bytes, rules=rules)[0]


def model_log(
    parts: Sequence[LogFile], state: State, *, max_line_bytes: int = 16 * 2**20, rules: Rules = MAIN
) -> list[ModelFile]:
    """Read the files of one log, oldest first; `state` goes from each to the next."""
    return [_part(part, state, max_line_bytes, rules) for part in parts]


def _part(file: LogFile, state: State, max_line_bytes: int, rules: Rules) -> ModelFile:
    if file.layout not in LAYOUTS:
        raise ValueError(f"layout is one of {LAYOUTS}, not {file.layout!r}")
    reader = Reader(rules, max_line_bytes, lambda record: _event_type(record, file) is not None)
    if file.layout == "file":
        reading = reader.one_record(file.content)
    else:
        reading = reader.lines(file.content, settled=file.settled)

    result = ModelFile(bytes=reading.bytes, repaired=reading.repaired)
    for piece in reading.pieces:
        if piece.record is None:
            result.rejected.append((piece.number, piece.offset, piece.length, piece.reason))
            continue
        timestamp, origin = _time(piece.record, state, file, rules)
        result.times[origin] += 1
        row = _derive(state, piece.record, timestamp, file, piece)
        result.rows.append(row)
        if row["session_id"] and _says_completed(piece.record):
            result.completed_sessions.add(row["session_id"])
    return result


# --- one record -------------------------------------------------------------------------------------------------------


def _derive(state: State, record: dict[str, Any], timestamp: float, file: LogFile, piece: Piece) -> dict[str, Any]:
    event_type = _event_type(record, file)
    assert event_type is not None
    last_segment = event_type.split(":")[-1]
    is_request = last_segment == "request"
    is_answer = last_segment in ("result", "response", "error", "cancelled")
    state.timestamp = timestamp

    # Session, owner and author.
    if file.layout == "session":
        session_id = file.session or file.stem
    else:
        session_id = first_of(record, "data.session_id", "metadata.session_id", "session_id") or ""
    author = first_of(record, "data.agent_id", "metadata.agent_id", "agent_id")
    addressees: list[str] = []
    for where in ("data.to_agent", "data.to_agents", "data.routing.to_agent", "data.routing.to_agents"):
        value = at(record, where)
        for element in value if isinstance(value, list) else [value]:
            add(addressees, text(element))
    if file.layout != "stream":
        if state.owner is None and not is_answer and author is not None:
            state.owner = author
        if state.owner is None and is_answer and addressees:
            state.owner = addressees[0]
        if author is None and not is_answer:
            author = state.owner

    members: list[str] = []
    value = at(record, "data.participants")
    if isinstance(value, list):
        for element in value:
            add(members, text(element))

    # Linking.
    correlation = first_of(
        record,
        "correlation_id",
        "data.correlation_id",
        "metadata.correlation_id",
        "request_id",
        "data.request_id",
        "metadata.request_id",
    )
    request = state.links.answer(author, correlation, timestamp) if is_answer else None

    # New role, before the row is written.
    new_role = first_of(record, "data.context.role_transition.to", "data.new_role", "data.role")
    if author is not None and new_role is not None:
        state.roles[author] = new_role

    participants: list[str] = []
    add(participants, author)
    for name in addressees:
        add(participants, name)
    for name in members:
        add(participants, name)
    if request is not None:
        add(participants, request.author)
    roles = {name: state.roles[name] for name in participants if name in state.roles}

    team_id = first_of(record, "data.team_id", "metadata.team_id")
    pattern = first_of(record, "data.pattern", "metadata.pattern")
    if pattern is None and request is not None:
        pattern = request.row["pattern_type"]
    elif pattern is None:
        if at(record, "data.broadcast") is True:
            pattern = "broadcast"
        elif team_id is not None:
            pattern = "team"
        elif len(addressees) == 1:
            pattern = "peer_to_peer"
        elif len(addressees) > 1:
            pattern = "swarm"
        else:
            pattern = "general"

    conversation = first_of(
        record, "data.conversation_id", "metadata.conversation_id", "data.team_id", "metadata.team_id"
    )
    if conversation is None:
        conversation = request.row["conversation_id"] if request is not None else session_id

    row_correlation = correlation
    if row_correlation is None and request is not None:
        row_correlation = request.correlation

    if file.layout != "stream":
        initiating_agent = state.owner
    elif is_answer:
        initiating_agent = request.author if request is not None else None
    else:
        initiating_agent = author

    requests_response = is_request
    for where in ("data.expects_response", "data.requests_response"):  # the later one has the last word
        if isinstance(at(record, where), bool):
            requests_response = at(record, where)

    row = {
        "id": f"{file.stem}:{piece.offset}",
        "timestamp": timestamp,
        "event_type": event_type,
        "session_id": session_id,
        "file_path": file.path,
        "line_number": piece.number,
        "byte_offset": piece.offset,
        "initiating_agent": initiating_agent if initiating_agent is not None else UNKNOWN,
        "participating_agents": participants,
        "agent_roles": roles,
        "pattern_type": pattern,
        "conversation_id": conversation,
        "correlation_id": row_correlation,
        "is_completion": int(event_type.startswith("completion:")),
        "is_request": int(is_request),
        "has_response": 0,
        "requests_response": int(requests_response),
        "author": author,
        "addressees": addressees,
        "answered_after": None,
        "day": day(timestamp),
        "byte_length": piece.length,
    }
    if is_request:
        state.links.ask(Request(row, state.records, author, addressees, requests_response, correlation))
    state.records += 1
    return row


# --- single attributes ------------------------------------------------------------------------------------------------


def _event_type(record: dict[str, Any], file: LogFile) -> str | None:
    event = record.get("event")
    if isinstance(event, str) and event:
        return text(event)
    if file.layout == "file" and (name := _event_file_name(file.path)):
        return name[2]
    return None


def _event_file_name(path: str) -> re.Match[str] | None:
    """`evt_<seconds>_<type>.json`"""
    return re.fullmatch(r"evt_([0-9]+(?:\.[0-9]+)?)_(.+)\.json", PurePosixPath(path).name, re.DOTALL)


def _time(record: dict[str, Any], state: State, file: LogFile, rules: Rules) -> tuple[float, str]:
    """The time of a record, and where it came from."""
    own = moment(record.get("timestamp"), rules)
    if own is not None:
        return own, "own"
    if state.timestamp is not None:
        return state.timestamp, "inherited"
    if file.layout == "file" and (name := _event_file_name(file.path)) and plausible(float(name[1])):
        return float(name[1]), "file"
    return min(max(0.0, file.mtime), (2**63 - 1) / 10**9), "file"


def _says_completed(record: dict[str, Any]) -> bool:
    return any(at(record, where) == "completed" for where in ("status", "data.status", "metadata.status"))
