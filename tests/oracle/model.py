"""The law of derivation (`docs/derivation.md`) as a plain model, for the reference format only.

It is written from the text alone and shares nothing with the package, so that the two readings can be held against each
other. Slow on purpose: every choice is a scan over a list, in the order of the law.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from oracle.reading import Reader
from oracle.rules import MAIN, Rules

KEPT = 1_024
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


@dataclass
class ModelFile:
    """What the law says of one file."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[tuple[int, int, int, str]] = field(default_factory=list)
    bytes: dict[str, int] = field(
        default_factory=lambda: {"indexed": 0, "blank": 0, "rejected": 0, "skipped": 0, "waiting": 0}
    )
    completed_sessions: set[str] = field(default_factory=set)
    repaired: int = 0


@dataclass
class Request:
    """A request as later answers see it. `row` is its own row, which an answer may still change."""

    row: dict[str, Any]
    author: str | None
    addressees: list[str]
    expects_response: bool
    correlation: str | None


@dataclass
class State:
    """What is carried from record to record of one file."""

    owner: str | None = None
    timestamp: float | None = None
    roles: dict[str, str] = field(default_factory=dict)
    open: list[Request] = field(default_factory=list)
    answered: list[Request] = field(default_factory=list)
    early: list[tuple[str, float]] = field(default_factory=list)


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
    if layout not in LAYOUTS:
        raise ValueError(f"layout is one of {LAYOUTS}, not {layout!r}")
    reader = Reader(rules, max_line_bytes, lambda record: _event_type(record, path, layout) is not None)
    reading = reader.one_record(content) if layout == "file" else reader.lines(content, settled=settled)

    result, state = ModelFile(bytes=reading.bytes, repaired=reading.repaired), State()
    for piece in reading.pieces:
        if piece.record is None:
            result.rejected.append((piece.number, piece.offset, piece.length, piece.reason))
            continue
        row = _derive(state, piece.record, path, layout, mtime, piece.number, piece.offset, piece.length)
        result.rows.append(row)
        if row["session_id"] and _says_completed(piece.record):
            result.completed_sessions.add(row["session_id"])
    return result


# --- one record -------------------------------------------------------------------------------------------------------


def _derive(
    state: State,
    record: dict[str, Any],
    path: str,
    layout: str,
    mtime: float,
    number: int,
    offset: int,
    length: int,
) -> dict[str, Any]:
    event_type = _event_type(record, path, layout)
    assert event_type is not None
    last_segment = event_type.split(":")[-1]
    is_request = last_segment == "request"
    is_answer = last_segment in ("result", "response", "error", "cancelled")

    timestamp = _timestamp(record, state, path, layout, mtime)
    state.timestamp = timestamp

    # Session, owner and author.
    stem = PurePosixPath(path).stem
    if layout == "session":
        session_id = stem
    else:
        session_id = _first_of(record, "data.session_id", "metadata.session_id", "session_id") or ""
    author = _first_of(record, "data.agent_id", "metadata.agent_id", "agent_id")
    addressees: list[str] = []
    for where in ("data.to_agent", "data.to_agents", "data.routing.to_agent", "data.routing.to_agents"):
        value = _at(record, where)
        for element in value if isinstance(value, list) else [value]:
            _add(addressees, _text(element))
    if layout != "stream":
        if state.owner is None and not is_answer and author is not None:
            state.owner = author
        if state.owner is None and is_answer and addressees:
            state.owner = addressees[0]
        if author is None and not is_answer:
            author = state.owner

    members: list[str] = []
    value = _at(record, "data.participants")
    if isinstance(value, list):
        for element in value:
            _add(members, _text(element))

    # Linking.
    correlation = _first_of(
        record,
        "correlation_id",
        "data.correlation_id",
        "metadata.correlation_id",
        "request_id",
        "data.request_id",
        "metadata.request_id",
    )
    request = _request_of_answer(state, author, correlation, timestamp) if is_answer else None

    # New role, before the row is written.
    new_role = _first_of(record, "data.context.role_transition.to", "data.new_role", "data.role")
    if author is not None and new_role is not None:
        state.roles[author] = new_role

    participants: list[str] = []
    _add(participants, author)
    for name in addressees:
        _add(participants, name)
    for name in members:
        _add(participants, name)
    if request is not None:
        _add(participants, request.author)
    roles = {name: state.roles[name] for name in participants if name in state.roles}

    team_id = _first_of(record, "data.team_id", "metadata.team_id")
    pattern = _first_of(record, "data.pattern", "metadata.pattern")
    if pattern is None and request is not None:
        pattern = request.row["pattern_type"]
    elif pattern is None:
        if _at(record, "data.broadcast") is True:
            pattern = "broadcast"
        elif team_id is not None:
            pattern = "team"
        elif len(addressees) == 1:
            pattern = "peer_to_peer"
        elif len(addressees) > 1:
            pattern = "swarm"
        else:
            pattern = "general"

    conversation = _first_of(
        record, "data.conversation_id", "metadata.conversation_id", "data.team_id", "metadata.team_id"
    )
    if conversation is None:
        conversation = request.row["conversation_id"] if request is not None else session_id

    row_correlation = correlation
    if row_correlation is None and request is not None:
        row_correlation = request.correlation

    if layout != "stream":
        initiating_agent = state.owner
    elif is_answer:
        initiating_agent = request.author if request is not None else None
    else:
        initiating_agent = author

    requests_response = is_request
    for where in ("data.expects_response", "data.requests_response"):  # the later one has the last word
        if isinstance(_at(record, where), bool):
            requests_response = _at(record, where)

    row = {
        "id": f"{stem}:{offset}",
        "timestamp": timestamp,
        "event_type": event_type,
        "session_id": session_id,
        "file_path": path,
        "line_number": number,
        "byte_offset": offset,
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
        "day": _day(timestamp),
        "byte_length": length,
    }
    if is_request:
        _new_request(state, Request(row, author, addressees, requests_response, correlation))
    return row


# --- linking ----------------------------------------------------------------------------------------------------------


def _new_request(state: State, request: Request) -> None:
    for early in state.early:
        correlation, answer_time = early
        if correlation == request.correlation:
            state.early.remove(early)
            _is_answered(state, request, answer_time)
            return
    state.open.append(request)


def _request_of_answer(state: State, author: str | None, correlation: str | None, timestamp: float) -> Request | None:
    """The request that an answer belongs to, marked as answered; the correlation of a lone answer is kept as early."""
    if correlation is None:
        request = _choice(state.open, author)
        if request is None and state.answered:
            request = state.answered[-1]
    else:
        request = None
        for candidate in state.open:  # file order, so that the newest stays
            if candidate.correlation == correlation:
                request = candidate
        if request is None:
            for candidate in state.answered:  # the order of answering, so that places in the file are compared
                newer = request is None or candidate.row["byte_offset"] > request.row["byte_offset"]
                if candidate.correlation == correlation and newer:
                    request = candidate
        if request is None:
            request = _choice([r for r in state.open if r.correlation is None], author)
            if request is not None:
                request.correlation = correlation
                request.row["correlation_id"] = correlation
        if request is None:
            times = [time for early, time in state.early if early == correlation]
            state.early = [(early, time) for early, time in state.early if early != correlation]
            state.early.append((correlation, times[0] if times else timestamp))
            del state.early[:-KEPT]
    if request is not None:
        _is_answered(state, request, timestamp)
    return request


def _choice(requests: list[Request], author: str | None) -> Request | None:
    """Among open requests, in file order, that expect a response."""
    expecting = [r for r in requests if r.expects_response]
    for request in expecting:
        if author is not None and author in request.addressees:
            return request
    for request in expecting:
        if not request.addressees:
            return request
    for request in expecting:
        return request
    return None


def _is_answered(state: State, request: Request, answer_time: float) -> None:
    if not request.row["has_response"]:
        request.row["answered_after"] = answer_time - request.row["timestamp"]
    request.row["has_response"] = 1
    state.open = [r for r in state.open if r is not request]
    state.answered = [r for r in state.answered if r is not request]
    state.answered.append(request)
    del state.answered[:-KEPT]


# --- single attributes ------------------------------------------------------------------------------------------------


def _event_type(record: dict[str, Any], path: str, layout: str) -> str | None:
    event = record.get("event")
    if isinstance(event, str) and event:
        return _text(event)
    if layout == "file" and (name := _event_file_name(path)):
        return name[2]
    return None


def _event_file_name(path: str) -> re.Match[str] | None:
    """`evt_<seconds>_<type>.json`"""
    return re.fullmatch(r"evt_([0-9]+(?:\.[0-9]+)?)_(.+)\.json", PurePosixPath(path).name, re.DOTALL)


def _timestamp(record: dict[str, Any], state: State, path: str, layout: str, mtime: float) -> float:
    own = _own_timestamp(record.get("timestamp"))
    if own is not None:
        return own
    if state.timestamp is not None:
        return state.timestamp
    if layout == "file" and (name := _event_file_name(path)) and _plausible(float(name[1])):
        return float(name[1])
    return min(max(0.0, mtime), (2**63 - 1) / 10**9)


def _own_timestamp(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if value >= 10**17:
            seconds = value / 10**9
        elif value >= 10**14:
            seconds = value / 10**6
        elif value >= 10**11:
            seconds = value / 10**3
        else:
            seconds = float(value)
        return seconds if _plausible(seconds) else None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp()
        return seconds if _plausible(seconds) else None
    return None


def _plausible(seconds: float) -> bool:
    """From 1970 to the end of 9999."""
    return math.isfinite(seconds) and 0 <= seconds < 253_402_300_800


def _day(timestamp: float) -> str:
    return (date(1970, 1, 1) + timedelta(days=math.floor(timestamp / 86_400))).isoformat()


def _says_completed(record: dict[str, Any]) -> bool:
    return any(_at(record, where) == "completed" for where in ("status", "data.status", "metadata.status"))


# --- paths and values -------------------------------------------------------------------------------------------------


def _at(record: dict[str, Any], path: str) -> Any:
    """What stands at a dotted path, or None."""
    value: Any = record
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def _text(value: Any) -> str | None:
    """A non-empty string, or an integer as its decimal string; anything else is absent."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        return None
    if len(value) > 1024:
        return value[:64] + "…" + hashlib.blake2b(value.encode(), digest_size=16).hexdigest()
    return value


def _first_of(record: dict[str, Any], *paths: str) -> str | None:
    for path in paths:
        value = _text(_at(record, path))
        if value is not None:
            return value
    return None


def _add(names: list[str], name: str | None) -> None:
    if name is not None and name not in names:
        names.append(name)
