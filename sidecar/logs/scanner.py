"""When to look at everything there is, and that look in slices, so that it delays no fresh line for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from sidecar.config.settings import Settings

from .scan import Found, Scan

SLICE = 2_000
"""Files that are looked at in one turn."""

POLL_INTERVAL = 0.5
"""Seconds between scans where there are no events."""

SHARE = 0.005
"""Of the time, spent scanning at most, however many files there are."""


class Scanned(NamedTuple):
    """A scan that came to its end."""

    seen: set[str]
    """The paths of all files that are there."""
    scan: Scan


class Scans:
    """The scans of one sidecar. Whoever reads hints asks for more of them than are due by themselves."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.due = 0.0
        """When the next one is to begin; it may have begun."""
        self._found: Iterator[Found] | None = None
        self._scan = Scan(settings)
        self._seen: set[str] = set()
        self._spent = 0.0
        self._is_asked = False
        """Since the present scan began, which may have passed already what is meant."""
        self._asked_due = 0.0

    @property
    def is_on(self) -> bool:
        """A scan has begun and has not come to its end."""
        return self._found is not None

    def ask(self) -> None:
        """Something happened of which only a scan can tell what."""
        self.due = min(self.due, self._asked_due)
        self._is_asked = True

    def begin_by(self, moment: float) -> None:
        """Let the next one begin at this moment at the latest."""
        self.due = min(self.due, moment)

    def begin_anew(self) -> None:
        """Forget the present one, and begin another at once."""
        self._found = None
        self.due = 0.0

    def clock_stepped_back(self, seconds: float) -> None:
        """What was due at a moment is due as long from now as it was before."""
        self.due -= seconds
        self._asked_due -= seconds

    def begins(self, now: float) -> bool:
        """Begin one if it is due."""
        if self.is_on or now < self.due:
            return False
        self._scan = Scan(self._settings)
        self._found = iter(self._scan)
        self._seen = set()
        self._spent = 0.0
        self._is_asked = False
        return True

    def turn(self, differs: Callable[[Found], bool]) -> tuple[list[Found], Scanned | None]:
        """A slice of the present scan: the files that differ, and where it has come to its end, what it was."""
        if self._found is None:
            return [], None
        began = time.perf_counter()
        found = list(islice(self._found, SLICE))
        self._seen.update([one.path for one in found])
        differing = [one for one in found if differs(one)]
        self._spent += time.perf_counter() - began
        if len(found) == SLICE:
            return differing, None
        self._found = None
        return differing, Scanned(self._seen, self._scan)

    def plan(self, now: float, *, polling: bool, is_well: bool) -> None:
        """Say when the next one is due, after the last: at a steady interval, a short one where there are no events, a
        longer one where a scan takes long and nothing is wrong."""
        # No more than half of the time for scans, though every one of them be asked for.
        self._asked_due = now + self._spent
        interval = self._settings.scan_interval
        if polling:
            interval = max(min(POLL_INTERVAL, interval), self._spent * 10)
        else:
            interval = max(interval, self._spent / SHARE if is_well else self._spent * 10)
        self.due = self._asked_due if self._is_asked else now + interval
