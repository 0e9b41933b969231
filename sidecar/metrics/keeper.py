"""Numbers that are counted in the background and kept, so that a scrape costs nothing but writing them down.

What looks at every log, at every day that has changed, or at a month of entries is made by threads of their own, each
as often as it takes little of a processor (`SHARE`). While nobody asks, nothing is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Generic, TypeVar

from sidecar.analyze.alarms import anomalies
from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import SidecarError
from sidecar.query.index import Index
from sidecar.store.connection import DATABASE_ERRORS

from .numbers import DaySums, EntrySums, HealthNumbers, health_numbers

T = TypeVar("T")
OpenIndex = Callable[[], Index]

INTERVAL = 5.0
"""Seconds between two counts, at least."""
SHARE = 50
"""How many times as long as it took a number is kept, at least: counting takes two percent of a processor, at most."""
GRACE = 60.0
"""Seconds by which a count may be late. Afterwards what is kept is not given out any more."""
PATIENCE = 8.0
"""Seconds for which the first scrape waits for numbers. Prometheus waits for ten."""
IDLE = 300.0
"""Seconds after the last scrape for which counting goes on."""
_log = get_logger(__name__)


class KeptValue(Generic[T]):
    """A value that a thread of its own makes again and again. For all threads."""

    def __init__(self, name: str, make: Callable[[], AbstractContextManager[Callable[[], T]]]) -> None:
        """`make` is entered and left in the thread, and gives what makes the value."""
        self._make = make
        self._changed = Condition()
        self._value: T | None = None
        self._began: float | None = None
        """When the value began to be made; None if there is none, or if it is too old to be given out. This and all
        other times are of the monotonic clock."""
        self._took = 0.0
        self._asked = 0.0
        self._is_over = False
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to make the value."""
        with self._changed:
            self._asked = time.monotonic()
            self._changed.notify_all()
        if not self._thread.is_alive():
            with suppress(RuntimeError):  # another thread was faster
                self._thread.start()

    def get(self, deadline: float) -> T | None:
        """The value, which may be as old as `interval`; None if it cannot be made, or is not there at the deadline."""
        self.start()
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or not self._is_late(0.0), deadline - time.monotonic())
            return None if self._is_late(GRACE) else self._value

    @property
    def is_late(self) -> bool:
        """Whether `get` would wait."""
        with self._changed:
            return self._is_late(0.0)

    @property
    def interval(self) -> float:
        """Seconds from the end of one count to the next."""
        return max(INTERVAL, SHARE * self._took)

    def close(self, seconds: float) -> None:
        """Make no more. If the thread is still making the value after so many seconds, it goes on as a daemon."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _is_late(self, grace: float) -> bool:
        if self._began is None:
            return True
        # The next count may take twice as long as this one.
        return time.monotonic() - self._began > self.interval + 3 * self._took + 1.0 + grace

    def _run(self) -> None:
        with self._make() as make:
            while not self._is_over:
                began = time.monotonic()
                value: T | None = None
                try:
                    value = make()
                except (OSError, SidecarError, *DATABASE_ERRORS) as error:
                    _log.info("%s: %s", self._thread.name, error)
                with self._changed:
                    self._value, self._began, self._took = value, began, time.monotonic() - began
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._is_over, self.interval)
                    self._changed.wait_for(lambda: self._is_over or time.monotonic() - self._asked < IDLE)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a scrape shows. What is None cannot be counted at the moment."""

    health: HealthNumbers
    sums: EntrySums | None
    anomalies: Mapping[str, int] | None
    """What needs somebody now, by kind."""


class Keeper:
    """The numbers of one root. For all threads."""

    def __init__(self, settings: Settings, open_index: OpenIndex, *, agents: int = 0, thread: str = "sidecar-") -> None:
        """`agents`: how many have numbers of their own; `thread`: what the names of the threads begin with."""
        self.agents = agents
        self._settings = settings
        self._open = open_index
        self._health = KeptValue(f"{thread}health", self._make_health)
        self._sums = KeptValue(f"{thread}sums", self._make_sums)
        self._anomalies = KeptValue(f"{thread}anomalies", self._make_anomalies)

    def start(self) -> None:
        """Begin to count, before anybody asks."""
        for one in (self._health, self._sums, self._anomalies):
            one.start()

    @property
    def is_ready(self) -> bool:
        """Whether `numbers` would not wait."""
        return not (self._health.is_late or self._sums.is_late)

    def numbers(self) -> Numbers | None:
        """The last numbers; None if nothing could be counted for too long. Waits for the first ones, for at most
        PATIENCE seconds, but not for the anomalies, which take long."""
        self.start()
        deadline = time.monotonic() + PATIENCE
        health = self._health.get(deadline)
        if health is None:
            return None
        # What is kept of an index that is gone is not given out.
        sums = None if health.index is None else self._sums.get(deadline)
        return Numbers(health, sums, None if sums is None else self._anomalies.get(0.0))

    def close(self, seconds: float) -> None:
        """Count no more. Threads that have not ended after so many seconds go on as daemons."""
        deadline = time.monotonic() + seconds
        for one in (self._health, self._sums, self._anomalies):
            one.close(max(0.0, deadline - time.monotonic()))

    # ---- in the threads

    @contextmanager
    def _make_health(self) -> Iterator[Callable[[], HealthNumbers]]:
        yield lambda: health_numbers(self._settings)

    @contextmanager
    def _make_sums(self) -> Iterator[Callable[[], EntrySums]]:
        days = DaySums(agents=self.agents > 0)
        folder = self._settings.index_folder
        with self._asking(lambda index: days.total(index, folder).only(self.agents)) as make:
            yield make

    @contextmanager
    def _make_anomalies(self) -> Iterator[Callable[[], Mapping[str, int]]]:
        with self._asking(_kinds) as make:
            yield make

    @contextmanager
    def _asking(self, question: Callable[[Index], T]) -> Iterator[Callable[[], T]]:
        """Asks an index of its own, which is opened when there is one."""
        with ExitStack() as opened:
            found: list[Index] = []

            def ask() -> T:
                if not found:
                    found.append(opened.enter_context(self._open()))
                return question(found[0])

            yield ask


def _kinds(index: Index) -> Mapping[str, int]:
    """The number of anomalies of each kind, by the names that the page has for them."""
    found = anomalies(index)
    pairs = sum(len(loop.agents) == 2 for loop in found.loops)
    return {
        "silent": len(found.silent),
        "storm": len(found.storms),
        "ping_pong": pairs,
        "cycle": len(found.loops) - pairs,
        "duplicates": len(found.duplicates),
    }
