"""Times as the law reads them, in seconds since 1970 UTC."""

from __future__ import annotations

import calendar
import math
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

from oracle.rules import Rules

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MAIL_ZONES = {"ut": 0, "utc": 0, "gmt": 0, "z": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6}
_MAIL_ZONES |= {"pst": -8, "pdt": -7}
_MAIL = re.compile(
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun),[ \t]*)?"
    r"(?P<day>[0-9]{1,2})[ \t]+(?P<month>[a-z]{3})[ \t]+(?P<year>[0-9]{2,4})[ \t]+"
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?[ \t]+"
    r"(?P<zone>[+-][0-9]{4}|[a-z]{1,3})(?:[ \t]+\([^()]*\))?"
)


def moment(value: Any, rules: Rules) -> float | None:
    """What stands as a time, or None where it is no time, not finite, before 1970 or after 9999."""
    seconds = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _of_number(value)
    elif isinstance(value, str):
        seconds = _of_text(value, rules)
    return seconds if seconds is not None and plausible(seconds) else None


def plausible(seconds: float) -> bool:
    """From 1970 to the end of 9999."""
    return math.isfinite(seconds) and 0 <= seconds < 253_402_300_800


def day(timestamp: float) -> str:
    """The UTC date."""
    return (date(1970, 1, 1) + timedelta(days=math.floor(timestamp / 86_400))).isoformat()


def _of_number(value: float) -> float:
    if value >= 10**17:
        return value / 10**9
    if value >= 10**14:
        return value / 10**6
    if value >= 10**11:
        return value / 10**3
    return float(value)


def _of_text(value: str, rules: Rules) -> float | None:
    if not rules.more_times:
        return _of_iso(value)
    if re.fullmatch(r"[0-9]{9,}(\.[0-9]+)?", value):
        return _of_number(_number(value))
    pointed, zone = value.replace(",", "."), value[-4:] in (" UTC", " GMT")
    seconds = _of_iso(pointed[:-4], own_zone=False) if zone else _of_iso(pointed)
    return seconds if seconds is not None else _of_mail(value.lower())


def _number(value: str) -> float:
    """Digits as the strict reading of JSON has them: beyond 64 bits they are a float."""
    digits = value.lstrip("0") or "0"
    return int(digits) if "." not in value and len(digits) <= 20 and int(digits) < 2**64 else float(value)


def _of_iso(value: str, *, own_zone: bool = True) -> float | None:
    """Without a zone it is UTC. `own_zone`: it may name one."""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    if found.tzinfo is None:
        return found.replace(tzinfo=UTC).timestamp()
    return found.timestamp() if own_zone else None


def _of_mail(value: str) -> float | None:
    """RFC 2822."""
    found = _MAIL.fullmatch(value)
    if not found or found["month"] not in _MONTHS:
        return None
    zone = found["zone"]
    if zone[0] in "+-":
        offset = int(zone[0] + "1") * (int(zone[1:3]) * 3_600 + int(zone[3:]) * 60)
    elif zone in _MAIL_ZONES:
        offset = _MAIL_ZONES[zone] * 3_600
    else:
        return None
    year = int(found["year"]) + _century(found["year"])
    month, day_ = _MONTHS.index(found["month"]) + 1, int(found["day"])
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"] or 0)
    if year < 1 or not 1 <= day_ <= calendar.monthrange(year, month)[1] or hour > 23 or minute > 59 or second > 59:
        return None
    days = (date(year, month, day_) - date(1970, 1, 1)).days
    return float(days * 86_400 + hour * 3_600 + minute * 60 + second - offset)


def _century(year: str) -> int:
    """What is added to the obsolete years of two and three digits."""
    if len(year) == 4:
        return 0
    return 2_000 if len(year) == 2 and int(year) < 50 else 1_900
