"""Moments, durations and calendar days. No clock: the caller says what time it is.

Moments come from people and programs as seconds, a datetime, ISO 8601, or an age such as `2h`. Days are UTC days, as a
number (days since 1970) or as the name `YYYY-MM-DD`.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from sidecar.errors import BadTime

Time = float | int | str | datetime
"""Seconds since 1970; a datetime or ISO 8601 (no zone: UTC); or an age, counted back from now."""
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def seconds_of(text: str) -> float | None:
    """The length of `30s`, `5m`, `2h`, `7d`, `1w` or `500ms` in seconds; None for anything else."""
    age = _AGE.fullmatch(text.strip().lower())
    return float(age[1]) * _UNITS[age[2]] if age else None


def duration(value: float | int | str) -> float:
    """A length of time in seconds, from a number of them or from an age; raises BadTime."""
    if isinstance(value, str):
        length = seconds_of(value)
        if length is not None:
            return length
        if not re.fullmatch(r"\d+(\.\d+)?", value.strip()):
            raise BadTime(f"{value!r} is no length of time")
    elif not _is_number(value):
        raise BadTime(f"{value!r} is no length of time")
    return float(value)


def moment_of(value: Time, now: float) -> float:
    """A moment in seconds since 1970; ages count back from `now`. Raises BadTime."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, str):
        age = seconds_of(value)
        if age is not None:
            return now - age
        number = _number(value)
        if number is not None:
            return number
        try:
            return moment_of(datetime.fromisoformat(value.strip()), now)
        except (ValueError, OverflowError):
            raise BadTime(f"{value!r} is no time") from None
    if not _is_number(value):
        raise BadTime(f"{value!r} is no time")
    return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{5,}(\.\d+)?|\d+\.\d+", text.strip()) else None


# ---- days

SECONDS_PER_DAY = 86_400
YEAR_10000 = 253_402_300_800
"""The first second after the year 9999, and so after the calendar."""

_LAST_MOMENT = YEAR_10000 - 1.0
_EPOCH = date(1970, 1, 1).toordinal()


def within_calendar(moment: float) -> float:
    """The moment; for one before 1970 or after 9999, the nearest second that has a day."""
    return moment if 0.0 <= moment < YEAR_10000 else min(max(moment, 0.0), _LAST_MOMENT)


def day_of(timestamp: float) -> str:
    """The UTC day of a moment. Before 1970 it is the first day, after 9999 the last: never an error."""
    # Not by datetime, which rounds to microseconds: the last of them before midnight would be on the next day.
    return day_name(int(within_calendar(timestamp) // SECONDS_PER_DAY))


def day_name(day: int) -> str:
    """`YYYY-MM-DD`, from days since 1970."""
    return date.fromordinal(_EPOCH + day).isoformat()


def day_number(name: str) -> int:
    """Days since 1970, from `YYYY-MM-DD`. Raises ValueError for anything else."""
    return date.fromisoformat(name).toordinal() - _EPOCH
