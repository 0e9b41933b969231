"""Parts of answers that look at a month: what needs somebody, and teams.

They take long, and change slowly. So they are kept, and while the index grows, the last ones are shown and new ones
are made in the background, one at a time.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from sidecar.analyze.alarms import anomalies
from sidecar.analyze.conversations import teams
from sidecar.analyze.values import Anomalies, Team
from sidecar.errors import SidecarError
from sidecar.query.index import Index
from sidecar.times import SECONDS_PER_DAY

from .desks import OpenIndex, Stamp, stamp
from .spans import TimeSpan

T = TypeVar("T")

FRESH = 15.0
"""Seconds for which a part is not made again, even if the index has changed."""
MOST_KEPT = 64
TEAM_SECONDS = 30 * SECONDS_PER_DAY
GRAIN = 3600.0
"""Ends of spans are rounded up to a multiple of this, so that pages of about the same time share their parts."""


class Pieces:
    """The parts that have been made. For all threads."""

    def __init__(self, folder: Path, open_index: OpenIndex) -> None:
        self._folder = folder
        self._open = open_index
        self._kept: OrderedDict[Hashable, tuple[Stamp, float, Any]] = OrderedDict()
        self._renewed: set[Hashable] = set()
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sidecar-web-pieces")

    def anomalies(self, index: Index, span: TimeSpan) -> Anomalies:
        """What needed somebody at the end of a span."""
        until = _end(span)
        return self._piece(("anomalies", until), index, lambda one: anomalies(one, until=until))

    def teams(self, index: Index, span: TimeSpan) -> tuple[Team, ...]:
        """The teams of the thirty days before the end of a span."""
        until = _end(span)
        last = until if until is not None or span.extent is None else span.extent[1] + 1
        begin = None if last is None else max(0.0, last - TEAM_SECONDS)
        # The start of the latest thirty days moves; a key that moved with it would keep nothing.
        return self._piece(("teams", until), index, lambda one: teams(one, begin, until))

    def close(self) -> None:
        """Wait for what is being made."""
        self._thread.shutdown(cancel_futures=True)

    def _piece(self, key: Hashable, index: Index, make: Callable[[Index], T]) -> T:
        state = stamp(self._folder)
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            return self._made(key, state, index, make)
        if found[0] != state and time.monotonic() - found[1] > FRESH:
            with self._lock:
                is_new = key not in self._renewed
                self._renewed.add(key)
            if is_new:
                with suppress(RuntimeError):  # closed meanwhile
                    self._thread.submit(self._renew, key, make)
        value: T = found[2]
        return value

    def _renew(self, key: Hashable, make: Callable[[Index], T]) -> None:
        try:
            with suppress(SidecarError), self._open() as index:
                self._made(key, stamp(self._folder), index, make)
        finally:
            with self._lock:
                self._renewed.discard(key)

    def _made(self, key: Hashable, state: Stamp, index: Index, make: Callable[[Index], T]) -> T:
        value = make(index)
        with self._lock:
            self._kept[key] = (state, time.monotonic(), value)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return value


def _end(span: TimeSpan) -> float | None:
    """The end of the span, rounded; None if nothing in the index is later."""
    if span.is_latest:
        return None
    return min(-(-span.until // GRAIN) * GRAIN, span.until + GRAIN)
