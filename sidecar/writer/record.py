"""Check and encode what is to be written: a record as one line, a session id as a file name; and detect communication
patterns.

Everything that can be refused is refused here, before a byte reaches a file. The communication pattern repeats a rule
of the index (docs/derivation.md, section 7), because a daemon that writes must not load the indexer; a property test
holds the two together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from enum import Enum
from math import isfinite
from typing import Any, NamedTuple

import orjson

from sidecar.errors import InvalidName, InvalidRecord

_MAX_NAME_BYTES = 255
"""Bytes of a file name, at most, on every file system in common use."""
# The search for NaN below does not look into dataclasses, so orjson must not serialize them.
_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATACLASS


class MissingSessionId(InvalidRecord, ValueError):
    """The record names no session."""

    hint = "put a session id under `data.session_id` or `metadata.session_id`"


class Place(NamedTuple):
    """Where a record is in a log."""

    path: str
    """The log, relative to the root, with `/`."""
    line_number: int
    """1-based."""
    byte_offset: int
    """Of the first byte of its line, 0-based."""


def stamped(record: dict[str, Any]) -> dict[str, Any]:
    """The record itself, or if it has no `timestamp` (or None), a copy with the current time in seconds since 1970.
    Raises InvalidRecord unless it is a dict."""
    if not isinstance(record, dict):
        raise _not_an_object(record)
    return record if record.get("timestamp") is not None else {**record, "timestamp": time.time()}


def encode(record: dict[str, Any]) -> bytes:
    """The record as one line of JSON, with its LF. It is `stamped` first.

    Raises InvalidRecord if it is not a dict, has no event type, or cannot be strict JSON: NaN and infinities, integers
    beyond 64 bits, lone surrogates, keys that are not strings, nesting deeper than 254 levels.
    """
    record = stamped(record)
    event_type = record.get("event")
    if not isinstance(event_type, str) or not event_type:
        raise InvalidRecord("the record has no event type: a non-empty string under `event`")
    try:
        line = orjson.dumps(record, option=_OPTIONS)
    except orjson.JSONEncodeError as error:
        raise InvalidRecord(f"{event_type!r} cannot be serialized: {error}") from error
    # orjson silently writes NaN as null. Searching the line for `null` first would cost more than walking through the
    # values, because records have long texts and few values.
    if _has_non_finite(record.values()):
        raise InvalidRecord(f"{event_type!r} cannot be serialized: NaN and infinities are not JSON")
    # Only an orjson.Fragment can contain one.
    if line.index(b"\n") != len(line) - 1:
        raise InvalidRecord(f"{event_type!r} cannot be serialized: a fragment in it has a line end")
    return line


def session_file(session_id: str) -> str:
    """The name of a session's log file. Raises InvalidName unless the id is a plain file name."""
    if not isinstance(session_id, str):
        raise InvalidName(f"a session id is a string, not {type(session_id).__name__}")
    name = f"{session_id}.jsonl"
    try:
        size = len(f"{name}.lock".encode())
    except UnicodeEncodeError:
        raise InvalidName(f"{session_id!r} is not a session id: it is not valid Unicode") from None
    if size > _MAX_NAME_BYTES:
        raise InvalidName(
            f"{session_id[:40]!r}... is too long for a session id: the name of its lock file would have {size} bytes,"
            f" and {_MAX_NAME_BYTES} are possible"
        )
    if not session_id.strip(".") or "/" in session_id or "\0" in session_id:
        raise InvalidName(f"{session_id!r} is not a session id: it must be a plain file name")
    return name


def session_of(record: dict[str, Any]) -> str:
    """The session that a record names under `data.session_id`, else under `metadata.session_id`. Raises
    MissingSessionId if it names none, InvalidRecord if it is not a dict."""
    if not isinstance(record, dict):
        raise _not_an_object(record)
    for key in ("data", "metadata"):
        section = record.get(key)
        if isinstance(section, dict) and (session_id := text(section.get("session_id"))):
            return session_id
    raise MissingSessionId(f"{record.get('event')!r} must have a session_id")


def _not_an_object(record: object) -> InvalidRecord:
    return InvalidRecord(f"a record is a JSON object, not {type(record).__name__}")


def _has_non_finite(values: Iterable[object]) -> bool:
    for value in values:
        kind = value.__class__
        # Nearly all values, so this is checked first.
        if kind is str or kind is int or value is None:
            continue
        if kind is float:
            if not isfinite(value):  # type: ignore[arg-type]
                return True
        elif isinstance(value, dict):
            if _has_non_finite(value.values()):
                return True
        elif isinstance(value, list | tuple):
            if _has_non_finite(value):
                return True
        elif isinstance(value, Enum) and _has_non_finite((value.value,)):
            return True
    return False


# ---- the pattern of a conversation


def detect_communication_pattern(data: object, metadata: object = None) -> str:
    """The `pattern_type` that the index gives to a record with this `data` and `metadata`, if it is not an answer.

    It is the record's own `pattern`; else `broadcast` if `data.broadcast` is true, `team` if there is a `team_id`,
    `peer_to_peer` for one addressee, `swarm` for several, `general` for none. A value of the wrong type counts as
    absent, so this never raises.

    >>> detect_communication_pattern({"to_agents": ["agent_a", "agent_b"]})
    'swarm'
    """
    of_data, of_metadata = _object(data), _object(metadata)
    own = text(of_data.get("pattern")) or text(of_metadata.get("pattern"))
    if own:
        return own
    if of_data.get("broadcast") is True:
        return "broadcast"
    if text(of_data.get("team_id")) or text(of_metadata.get("team_id")):
        return "team"
    count = len(_addressees(of_data))
    if count == 1:
        return "peer_to_peer"
    return "swarm" if count else "general"


def text(value: object) -> str | None:
    """The value as an id: a non-empty string, or an integer as its decimal digits. None for any other value."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(int(value))
        except ValueError:
            # More digits than Python converts.
            return None
    return None


def _addressees(data: dict[str, Any]) -> set[str]:
    routing = _object(data.get("routing"))
    found: set[str] = set()
    for value in (data.get("to_agent"), data.get("to_agents"), routing.get("to_agent"), routing.get("to_agents")):
        each = value if isinstance(value, list | tuple) else (value,)
        found.update(id for item in each if (id := text(item)))
    return found


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
