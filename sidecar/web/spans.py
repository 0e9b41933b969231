"""The parameters of a request: spans of time, numbers and names."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.errors import BadTime
from sidecar.times import SECONDS_PER_DAY, moment_of

OLD = float(SECONDS_PER_DAY)
"""Seconds. If the last entry is older, times are counted from it and not from now: old logs have something to show."""
STEP = 10.0
"""The end of a default span is a multiple of this, so that pages asked for together have the same."""


class BadParameter(Exception):
    """A parameter that cannot be used. The message says which, and what is expected."""


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """What a page shows: entries from `since` on and before `until`, in seconds since 1970."""

    since: float
    until: float
    extent: tuple[float, float] | None
    """The times of the first and the last entry of the index; None if it is empty."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.until - self.since

    @property
    def before(self) -> TimeSpan:
        """The span of the same length before this one."""
        return TimeSpan(self.since - self.seconds, self.since, self.extent)

    @property
    def days(self) -> TimeSpan:
        """The days of this span, as a whole."""
        end = math.ceil(self.until / SECONDS_PER_DAY) * SECONDS_PER_DAY
        return TimeSpan(float(self.since // SECONDS_PER_DAY * SECONDS_PER_DAY), float(end), self.extent)

    def ends(self) -> dict[str, float]:
        """The keys that every answer has."""
        return {"from": self.since, "to": self.until}


def present(extent: tuple[float, float] | None, now: float | None = None) -> float:
    """The moment from which ages are counted: now, or just after the last entry if that is older than a day."""
    now = time.time() if now is None else now
    if extent is not None and now - extent[1] > OLD:
        return math.floor(extent[1]) + 1.0
    return math.ceil(now / STEP) * STEP


def span_of(
    params: Mapping[str, str], extent: tuple[float, float] | None, *, whole: bool = False, now: float | None = None
) -> TimeSpan:
    """The span that `from` and `to` name. Default: the last day, or with `whole` everything. Raises BadParameter."""
    end = _moment(params, "to", extent)
    until = present(extent, now) if end is None else end
    begin = _moment(params, "from", extent)
    if begin is None:
        first = until - OLD if extent is None else min(extent[0], until)
        begin = min(first, until - OLD) if whole else until - OLD
    if begin >= until:
        raise BadParameter("from: has to be before `to`")
    return TimeSpan(begin, until, extent)


def _moment(params: Mapping[str, str], name: str, extent: tuple[float, float] | None) -> float | None:
    text = params.get(name)
    if not text:
        return None
    try:
        moment = moment_of(text, present(extent))
    except BadTime as error:
        raise BadParameter(f"{name}: {error}") from None
    return max(0.0, moment)


def number(params: Mapping[str, str], name: str, default: int, most: int, least: int = 1) -> int:
    """A whole number from `least` to `most`. Raises BadParameter."""
    text = params.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise BadParameter(f"{name}: a whole number from {least} to {most} is expected, not {text[:40]!r}")
    return min(most, int(text))


def needed(params: Mapping[str, str], name: str) -> str:
    """A parameter that has to be there. Raises BadParameter."""
    text = params.get(name)
    if not text:
        raise BadParameter(f"{name}: is missing")
    return text
