"""The arguments of the library, checked where they come in. What is wrong is named; an id is as the index has it."""

from __future__ import annotations

import re
from typing import Any

from sidecar.errors import BadArgument
from sidecar.ids import MAX_ID_CHARACTERS, short_id
from sidecar.records import Entry

_LONE = re.compile("[\ud800-\udfff]")
"""Half of a character of UTF-16, which no UTF-8 has. Where a record has one, the index has U+FFFD."""
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_STATES = ("active", "completed")


def as_indexed(value: Any, argument: str) -> str:
    """An id or name as the index has it: one of more than MAX_ID_CHARACTERS is shortened. Raises BadArgument unless it
    is a string."""
    if not isinstance(value, str):
        raise _wrong(argument, "a string", value)
    text = value if value.isascii() else _LONE.sub("\ufffd", value)
    return text if len(text) <= MAX_ID_CHARACTERS else short_id(text)


def checked_entry(value: Any) -> Entry:
    """Raises BadArgument unless it is an entry."""
    if not isinstance(value, Entry):
        raise _wrong("entry", "a `sidecar.Entry`, as `timeline` and `get` return it", value)
    return value


def checked_limit(value: Any) -> int | None:
    """Raises BadArgument unless it is None or a number of entries."""
    return value if value is None else checked_count(value, "limit", "None or a whole number, not negative")


def checked_count(value: Any, argument: str, expected: str = "a whole number, not negative") -> int:
    """Raises BadArgument unless it is a number that an index can count to."""
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise _wrong(argument, expected, value)
    return value


def checked_seconds(value: Any, argument: str) -> float:
    """Raises BadArgument unless it is a time span that one can wait for."""
    if not isinstance(value, int | float) or not 0 <= value <= 86_400:
        raise _wrong(argument, "a number of seconds, from 0 to 86400", value)
    return value


def checked_day(value: Any) -> str:
    """Raises BadArgument unless it is a day as `Index.days` names it."""
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise _wrong("day", "a day as `YYYY-MM-DD`", value)
    return value


def checked_status(value: Any) -> str | None:
    """Raises BadArgument unless it is None or a status of sessions."""
    if value is not None and value not in _STATES:
        raise _wrong("status", "None, 'active' or 'completed'", value)
    return None if value is None else str(value)


def _wrong(argument: str, expected: str, value: Any) -> BadArgument:
    shown = repr(value) if isinstance(value, str | bytes | float) else f"a value of the type {type(value).__name__}"
    return BadArgument(f"`{argument}` must be {expected}, not {shown[:100]}")
