"""Which JSON values count as times: the forms in `docs/derivation.md`, section 3.

None of these functions raises for any JSON value.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Any

from sidecar.times import YEAR_10000

_DIGITS = re.compile(r"[0-9]{9,}(?:\.[0-9]+)?")
"""A number in a string, which counts as it would in JSON, where integers beyond 64 bits become floats. With fewer than
nine digits it could be a date: `20240115`."""
_MAX_MAIL_CHARACTERS = 100
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_AMERICAN = {"EDT": -4, "EST": -5, "CDT": -5, "CST": -6, "MDT": -6, "MST": -7, "PDT": -7, "PST": -8}
_HOURS_FROM_UTC = {"UT": 0, "UTC": 0, "GMT": 0, "Z": 0, **_AMERICAN}
"""The zones that RFC 2822 defines by name. Others could mean anything, so a time in one of them is unreadable."""
_MAIL = re.compile(
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun)\s*,)?\s*(?P<day>[0-9]{1,2})\s+"
    rf"(?P<month>{'|'.join(_MONTHS)})\s+(?P<year>[0-9]{{4}}|[0-9]{{2}})\s+"
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?\s+"
    r"(?:(?P<sign>[+-])(?P<hours>[0-9]{2})(?P<minutes>[0-5][0-9])|(?P<zone>[a-z]{1,3}))(?:\s+\([^()]*\))?",
    re.IGNORECASE | re.ASCII,
)
"""A date as RFC 2822 defines it, including obsolete years and zones: `Mon, 15 Jan 2024 09:30:00 +0100 (CET)`."""


def timestamp_of(value: Any, zone: tzinfo = UTC) -> float | None:
    """Seconds since 1970, UTC, between 1970 and 9999; else None.

    A number counts seconds; from 1e11 on milliseconds, from 1e14 on microseconds, from 1e17 on nanoseconds. So does a
    string of nine digits or more. Any other string is in ISO 8601, in `zone` if it names no zone, or it is a date as
    RFC 2822 defines it.
    """
    if value.__class__ is str:
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            seconds = _in_another_form(value, zone)
        else:
            # Python takes some strings of digits for a date, a separator, and an hour.
            seconds = _seconds(when, zone) if value[4] == "-" else _in_another_form(value, zone, when)
    else:
        seconds = _from_number(value)
    # NaN is in no range.
    return seconds if seconds is not None and 0 <= seconds < YEAR_10000 else None


def _in_another_form(text: str, zone: tzinfo, when: datetime | None = None) -> float | None:
    """The seconds of a text that is not in ISO 8601 with hyphens. `when` is the time that it is in ISO 8601 without
    hyphens, if it is one."""
    if _DIGITS.fullmatch(text):
        number = float(text)
        return _from_number(int(text.lstrip("0") or 0) if number < 2**64 and text.isdecimal() else number)
    if when is None and text.endswith((" UTC", " GMT")):
        try:
            when, zone = datetime.fromisoformat(text[:-4]), UTC
        except ValueError:
            return _from_mail(text)
        if when.tzinfo is not None:
            return None
    return _from_mail(text) if when is None else _seconds(when, zone)


def _seconds(when: datetime, zone: tzinfo) -> float | None:
    try:
        return (when if when.tzinfo else when.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        # The time is in the first or last hours of the calendar.
        return None


def _from_number(value: Any) -> float | None:
    if (value.__class__ is int or value.__class__ is float) and 0 <= value < YEAR_10000 * 10**9:
        return value / _unit(value)
    return None


def _unit(number: float) -> int:
    """How many units make a second, for a number of this size."""
    if number < 10**11:
        return 1
    if number < 10**14:
        return 10**3
    return 10**6 if number < 10**17 else 10**9


def _from_mail(text: str) -> float | None:
    """The seconds of a date of RFC 2822; None for any other text."""
    found = _MAIL.fullmatch(text) if len(text) <= _MAX_MAIL_CHARACTERS else None
    if found is None:
        return None
    if found["zone"] is None:
        offset = int(f"{found['sign']}1") * (60 * int(found["hours"]) + int(found["minutes"]))
    elif (hours := _HOURS_FROM_UTC.get(found["zone"].upper())) is not None:
        offset = 60 * hours
    else:
        return None
    year = int(found["year"])
    # This is how the RFC reads obsolete years.
    if len(found["year"]) == 2:
        year += 2000 if year < 50 else 1900
    date = (year, 1 + _MONTHS.index(found["month"].lower()), int(found["day"]))
    try:
        clock = (int(found["hour"]), int(found["minute"]), int(found["second"] or 0))
        return datetime(*date, *clock, tzinfo=UTC).timestamp() - 60 * offset
    except ValueError:
        # There is no such day or hour.
        return None
