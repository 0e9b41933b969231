"""The arguments of the library, checked where they come in. What is wrong is named; an id is as the index has it."""

from __future__ import annotations

from typing import Any

from sidecar.errors import BadArgument
from sidecar.ids import bounded_id
from sidecar.lenient import LONE_SURROGATE
from sidecar.records import SESSION_STATUSES, Entry
from sidecar.times import DAY


def as_indexed(value: Any, argument: str) -> str:
    """An id or name as the index has it: a very long one is shortened, and half of a character is U+FFFD. Raises
    BadArgument unless it is a string."""
    if not isinstance(value, str):
        raise _wrong(argument, "a string", value)
    return bounded_id(value if value.isascii() else LONE_SURROGATE.sub("\ufffd", value))


def checked_entry(value: Any) -> Entry:
    """The entry that was passed. Raises BadArgument unless it is one."""
    if not isinstance(value, Entry):
        raise _wrong("entry", "a `sidecar.Entry`, as `timeline` and `get` return it", value)
    return value


def checked_limit(value: Any) -> int | None:
    """The largest number of entries, or None for all. Raises BadArgument for anything else."""
    return value if value is None else checked_count(value, "limit", "None or a whole number, not negative")


def checked_count(value: Any, argument: str, expected: str = "a whole number, not negative") -> int:
    """A number that is not negative. Raises BadArgument for anything else."""
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise _wrong(argument, expected, value)
    return value


def checked_wait(value: Any, argument: str) -> float:
    """A time to wait, in seconds, at most a day. Raises BadArgument for anything else."""
    if not isinstance(value, int | float) or not 0 <= value <= 86_400:
        raise _wrong(argument, "a number of seconds, from 0 to 86400", value)
    return value


def checked_day(value: Any) -> str:
    """A day as `Index.days` names it. Raises BadArgument for anything else."""
    if not isinstance(value, str) or not DAY.fullmatch(value):
        raise _wrong("day", "a day as `YYYY-MM-DD`", value)
    return value


def checked_status(value: Any) -> str | None:
    """A status of sessions, or None for all. Raises BadArgument for anything else."""
    if value is None or (isinstance(value, str) and value in SESSION_STATUSES):
        return value
    raise _wrong("status", f"None, {' or '.join(map(repr, SESSION_STATUSES))}", value)


def _wrong(argument: str, expected: str, value: Any) -> BadArgument:
    shown = repr(value) if isinstance(value, str | bytes | float) else f"a value of the type {type(value).__name__}"
    return BadArgument(f"`{argument}` must be {expected}, not {shown[:100]}")
