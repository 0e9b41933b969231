"""Parts of answers that look at a month: what needs somebody, and teams.

They take long, and change slowly. So they are made in the background, one at a time, and kept; while the index grows,
the last ones are shown, and new ones are made.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from sidecar.analyze.alarms import anomalies
from sidecar.analyze.conversations import teams
from sidecar.analyze.requests import extent
from sidecar.analyze.values import Anomalies, Team
from sidecar.query.index import Index
from sidecar.times import SECONDS_PER_DAY

from .desks import Desk, OpenIndex, Stamp, stamp
from .spans import TimeSpan

T = TypeVar("T")

FRESH = 15.0
"""Seconds for which a part is not made again, even if the index has changed."""
PATIENCE = 8.0
"""Seconds that an answer waits for its parts. One that is not there by then is left out, and made all the same."""
MOST_KEPT = 64
TEAM_SECONDS = 30 * SECONDS_PER_DAY


class Pieces:
    """The parts that have been made, by a thread of their own. For all threads."""

    def __init__(self, folder: Path, open_index: OpenIndex) -> None:
        self._folder = folder
        self._desk = Desk("pieces", open_index)
        self._kept: OrderedDict[Hashable, tuple[Stamp, float, Any]] = OrderedDict()
        self._made: dict[Hashable, Future[Any]] = {}
        """Those that are being made."""
        self._lock = Lock()

    def warm(self) -> None:
        """Begin to make the latest parts, before anybody asks."""
        for key, make in (_anomalies(None), _teams(None)):
            self._begin(key, make)

    def anomalies(self, span: TimeSpan) -> Anomalies | None:
        """What needed somebody at the end of the day with which a span ends; None if that is not known yet."""
        return self._piece(*_anomalies(_end(span)))

    def teams(self, span: TimeSpan) -> tuple[Team, ...] | None:
        """The teams of the thirty days before that; None if they are not known yet."""
        return self._piece(*_teams(_end(span)))

    def close(self) -> None:
        """Make no more."""
        self._desk.close()

    def _piece(self, key: Hashable, make: Callable[[Index], T]) -> T | None:
        with self._lock:
            found = self._kept.get(key)
        if found is not None:
            if time.monotonic() - found[1] > FRESH and found[0] != stamp(self._folder):
                self._begin(key, make)
            value: T = found[2]
            return value
        try:
            return self._begin(key, make).result(PATIENCE)
        except TimeoutError:
            return None

    def _begin(self, key: Hashable, make: Callable[[Index], T]) -> Future[T]:
        def run(index: Index) -> T:
            try:
                state = stamp(self._folder)
                value = make(index)
                with self._lock:
                    self._kept[key] = (state, time.monotonic(), value)
                    self._kept.move_to_end(key)
                    while len(self._kept) > MOST_KEPT:
                        self._kept.popitem(last=False)
                return value
            finally:
                with self._lock:
                    self._made.pop(key, None)

        with self._lock:
            known = self._made.get(key)
            if known is None:
                known = self._made[key] = self._desk.begin(run)
            return known


def _anomalies(until: float | None) -> tuple[Hashable, Callable[[Index], Anomalies]]:
    return ("anomalies", until), lambda index: anomalies(index, until=until)


def _teams(until: float | None) -> tuple[Hashable, Callable[[Index], tuple[Team, ...]]]:
    def make(index: Index) -> tuple[Team, ...]:
        ends = extent(index, until=until)
        return () if ends is None else teams(index, max(0.0, ends[1] - TEAM_SECONDS), until)

    return ("teams", until), make


def _end(span: TimeSpan) -> float | None:
    """The end of the day with which a span ends, so that pages of about the same time share their parts; None if
    nothing in the index is later."""
    end = span.days.until
    return None if span.extent is None or end > span.extent[1] else end
