"""What a JSON value counts as: an id, some ids, a moment, a kind of event; by section 6 of the design.

Each takes any JSON value, and raises on none.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sidecar.records import Kind

YEAR_10000 = 253_402_300_800
"""The first second that is past the year 9999."""
_KINDS_KEPT = 4096
_LONGEST_TYPE_KEPT = 200


def text(value: Any) -> str | None:
    """An id: a non-empty string, or a whole number as its digits; else None."""
    if value.__class__ is str:
        return value or None
    if value.__class__ is int:
        try:
            return str(value)
        except ValueError:  # more digits than Python is willing to write
            return None
    return None


def gather(ids: tuple[str, ...], value: Any) -> tuple[str, ...]:
    """`ids`, and after them the ids in `value` that are new: it is one id, or a list of them."""
    if value.__class__ is str:
        return (*ids, value) if value and value not in ids else ids
    found = value if value.__class__ is list else (value,)
    new = [id for each in found if (id := text(each))]
    return tuple(dict.fromkeys((*ids, *new))) if new else ids


def moment(value: Any) -> float | None:
    """Seconds since 1970, UTC, between 1970 and 9999; else None.

    A number counts as seconds, from 1e11 on as milliseconds, from 1e14 as microseconds, from 1e17 as
    nanoseconds. A string is ISO 8601, and without a zone UTC.
    """
    if value.__class__ is str:
        try:
            when = datetime.fromisoformat(value)
            seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    elif (value.__class__ is int or value.__class__ is float) and 0 <= value < YEAR_10000 * 10**9:
        seconds = value / _unit(value)
    else:
        return None
    return seconds if 0 <= seconds < YEAR_10000 else None  # NaN is in no range


def _unit(number: float) -> int:
    """How many of what `number` counts make a second."""
    if number < 10**11:
        return 1
    if number < 10**14:
        return 10**3
    return 10**6 if number < 10**17 else 10**9


def classifier(
    completions: tuple[str, ...],
    requests: tuple[str, ...],
    answers: tuple[str, ...],
    skip: tuple[str, ...],
    kept: dict[str, Kind],
) -> Callable[[str], Kind]:
    """From event type to kind, by a format's patterns. `kept` remembers, and stays small whatever comes."""
    is_completion, is_request, is_answer, is_skipped = map(_matcher, (completions, requests, answers, skip))

    def kind_of(event_type: str) -> Kind:
        asks = is_request(event_type)  # what matches both patterns asks: else it could never be answered
        answering = not asks and is_answer(event_type)
        kind = Kind(is_completion(event_type), asks, answering, is_skipped(event_type))
        if len(event_type) <= _LONGEST_TYPE_KEPT:
            if len(kept) >= _KINDS_KEPT:
                kept.clear()
            kept[event_type] = kind
        return kind

    return kind_of


def _matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """`a:b` is that type, `a:` begins so, `:b` has the last segment `b`."""
    beginnings = tuple(p for p in patterns if p.endswith(":"))
    endings = {p[1:] for p in patterns if p.startswith(":")}
    exact = {p for p in patterns if not (p.startswith(":") or p.endswith(":"))}

    def matches(event_type: str) -> bool:
        last = event_type.rpartition(":")[2]
        return event_type in exact or last in endings or event_type.startswith(beginnings)

    return matches
