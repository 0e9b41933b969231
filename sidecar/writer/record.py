"""What may be written: a record as one line of bytes, a session id as one file name, agents by the law.

Everything that can be refused is refused here, before a byte reaches a file. How agents speak in a record is the law of
the index (`docs/derivation.md`) a second time, because a daemon that writes must not load the indexer; a
property test holds the two together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from enum import Enum
from math import isfinite
from typing import Any, NamedTuple

import orjson

from sidecar.errors import InvalidName, InvalidRecord

_LONGEST_NAME = 255
"""Bytes of a file name, on every file system in common use."""
# A dataclass could hide a NaN from the search below, so it is not for orjson to take apart.
_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATACLASS


class MissingSessionId(InvalidRecord, ValueError):
    """This record names no session."""

    hint = "put a session id under `data.session_id` or `metadata.session_id`"


class Place(NamedTuple):
    """Where a record stands."""

    path: str
    """Relative to the root, with `/`."""
    line_number: int
    """The first line is 1."""
    byte_offset: int
    """Where its line starts."""


def stamped(record: dict[str, Any]) -> dict[str, Any]:
    """The record, or where it bears no time (missing, or None) a copy with the time of now. Raises InvalidRecord."""
    if not isinstance(record, dict):
        raise _no_object(record)
    return record if record.get("timestamp") is not None else {**record, "timestamp": time.time()}


def encode(record: dict[str, Any]) -> bytes:
    """The record as one line, stamped, LF included.

    Raises InvalidRecord for what is no dict, has no event type, or is not JSON to the last value: NaN and
    infinities, integers past 64 bits, lone surrogates, keys that are no strings, nesting deeper than 254.
    """
    record = stamped(record)
    event_type = record.get("event")
    if not isinstance(event_type, str) or not event_type:
        raise InvalidRecord("a record has an event type under `event`, a non-empty string")
    try:
        line = orjson.dumps(record, option=_OPTIONS)
    except orjson.JSONEncodeError as error:
        raise InvalidRecord(f"{event_type!r} cannot be serialized: {error}") from error
    # orjson writes NaN as null, without a word. To look for that null in the line first would cost more than the walk:
    # records hold long texts and few values.
    if _has_non_finite(record.values()):
        raise InvalidRecord(f"{event_type!r} cannot be serialized: NaN and infinities are no JSON")
    if line.index(b"\n") != len(line) - 1:  # only an orjson.Fragment brings its own
        raise InvalidRecord(f"{event_type!r} cannot be serialized: a fragment of it holds a line end")
    return line


def session_file(session_id: str) -> str:
    """The name of a session's log file. Raises InvalidName where the id is anything but a plain file name."""
    if not isinstance(session_id, str):
        raise InvalidName(f"a session id is a string, not {type(session_id).__name__}")
    name = f"{session_id}.jsonl"
    try:
        size = len(f"{name}.lock".encode())
    except UnicodeEncodeError:
        raise InvalidName(f"{session_id!r} is no session id: it is not valid Unicode") from None
    if size > _LONGEST_NAME:
        raise InvalidName(f"{session_id[:40]!r}... is too long for a session id: its file name has {size} bytes")
    if not session_id.strip(".") or "/" in session_id or "\0" in session_id:
        raise InvalidName(f"{session_id!r} is no session id, but a path or no name at all")
    return name


def session_of(record: dict[str, Any]) -> str:
    """The session that a record names. Raises MissingSessionId where it names none, InvalidRecord for a non-object."""
    if not isinstance(record, dict):
        raise _no_object(record)
    for key in ("data", "metadata"):
        holder = record.get(key)
        if isinstance(holder, dict) and (session_id := text(holder.get("session_id"))):
            return session_id
    raise MissingSessionId(f"{record.get('event')!r} must have a session_id")


def _no_object(record: object) -> InvalidRecord:
    return InvalidRecord(f"a record is a JSON object, not {type(record).__name__}")


def _has_non_finite(values: Iterable[object]) -> bool:
    for value in values:
        kind = value.__class__
        if kind is str or kind is int or value is None:  # nearly all of them, so they are let go first
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
    """The pattern_type that the index will give to a record with this `data` and `metadata` that answers nothing.

    Its own `pattern`; else `broadcast` where `data.broadcast` is true, `team` where there is a `team_id`,
    `peer_to_peer` for one addressee, `swarm` for more, `general` for none. Raises on no value: what has the wrong type
    counts as absent.
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
    """An id: a non-empty string, or a whole number as its digits; else None."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(int(value))
        except ValueError:  # more digits than Python is willing to write
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
