"""Moments, durations and calendar days. No clock: the caller says what time it is.

Moments come from people and programs as seconds, a datetime, ISO 8601, a time of day such as `19:35`, `today`,
`yesterday`, or an age such as `2h` or `1h30m`. Days are UTC days, as a number (days since 1970) or as the name
`YYYY-MM-DD`.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from sidecar.errors import BadTime

Time = float | int | str | datetime
"""Seconds since 1970; a datetime or ISO 8601 (in UTC if it names no zone); a time of day, `today`, `yesterday` or
`now`; or an age, which is counted back from now."""
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
"""The form of a day's name."""
_UNITS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "sec": 1.0, "ms": 0.001}
_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(sorted(_UNITS, key=len, reverse=True))})\s*", re.ASCII)
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?", re.ASCII)
_DAYS_AGO = {"today": 0, "yesterday": 1}


def seconds_of(text: str) -> float | None:
    """The length in seconds of an age such as `30s`, `5m`, `30min`, `1h30m`, `7d`, `1w` or `500ms`; else None."""
    text = text.strip().lower()
    total, smallest, end = 0.0, float("inf"), 0
    for part in _PART.finditer(text):
        unit = _UNITS[part[2]]
        if part.start() != end or unit >= smallest:
            return None
        total, smallest, end = total + float(part[1]) * unit, unit, part.end()
    return total if 0 < end == len(text) else None


def duration(value: float | int | str) -> float:
    """A length of time in seconds, from a number of seconds or an age. Raises BadTime."""
    if isinstance(value, str):
        length = seconds_of(value)
        if length is not None:
            return length
        if not re.fullmatch(r"\d+(\.\d+)?", value.strip()):
            raise BadTime(f"not a length of time: {value!r}")
    elif not _is_number(value):
        raise BadTime(f"not a length of time: {value!r}")
    return float(value)


def moment_of(value: Time, now: float, *, local: bool = False) -> float:
    """A moment in seconds since 1970. An age is counted back from `now`. Raises BadTime.

    A time without a zone is in UTC, or with `local` in this machine's zone. A time of day is the latest one that has
    passed: at 10:00, `19:35` is yesterday's.
    """
    if isinstance(value, datetime):
        return (value if value.tzinfo or local else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, str):
        return _moment_in_words(value.strip(), now, local)
    if not _is_number(value):
        raise BadTime(f"not a time: {value!r}")
    return float(value)


def _moment_in_words(text: str, now: float, local: bool) -> float:
    age = seconds_of(text)
    if age is not None:
        return now - age
    number = _number(text)
    if number is not None:
        return number
    try:
        return moment_of(_date_and_time(text, datetime.fromtimestamp(now, None if local else UTC)), now, local=local)
    except (ValueError, OverflowError):
        raise BadTime(f"not a time: {text!r}") from None


def _date_and_time(text: str, now: datetime) -> datetime:
    """The moment that a text names, with a zone only if the text has one. Raises ValueError."""
    now = now.replace(tzinfo=None)
    if text.lower() == "now":
        return now
    if text.lower() in _DAYS_AGO:
        return datetime.combine(now.date() - timedelta(_DAYS_AGO[text.lower()]), time())
    if _TIME_OF_DAY.fullmatch(text):
        moment = datetime.combine(now.date(), time.fromisoformat(text if text[2] == ":" else f"0{text}"))
        return moment if moment <= now else moment - timedelta(1)
    return datetime.fromisoformat(text)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{5,}(\.\d+)?|\d+\.\d+", text.strip()) else None


# ---- days

SECONDS_PER_DAY = 86_400
YEAR_10000 = 253_402_300_800
"""The first second after the year 9999, the last one for which Python has dates."""

_LAST_MOMENT = YEAR_10000 - 1.0
_EPOCH = date(1970, 1, 1).toordinal()


def within_calendar(moment: float) -> float:
    """The moment itself, or the nearest one from 1970 to 9999."""
    return moment if 0.0 <= moment < YEAR_10000 else min(max(moment, 0.0), _LAST_MOMENT)


def day_of(timestamp: float) -> str:
    """The UTC day of a moment. For a moment before 1970 it is the first day, for one after 9999 the last."""
    # Not by datetime, which rounds to microseconds: a moment just before midnight would be on the next day.
    return day_name(int(within_calendar(timestamp) // SECONDS_PER_DAY))


def day_name(day: int) -> str:
    """`YYYY-MM-DD`, from days since 1970."""
    return date.fromordinal(_EPOCH + day).isoformat()


def day_number(name: str) -> int:
    """Days since 1970, from `YYYY-MM-DD`. Raises ValueError for anything else."""
    return date.fromisoformat(name).toordinal() - _EPOCH
