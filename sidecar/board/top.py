"""`sidecar top`: the board of the logs that are there, kept up to date."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from sidecar.errors import EntryNotFound, IndexUnavailable, SourceError
from sidecar.query.day_facts import DayFacts, of_each_day
from sidecar.query.index import Index
from sidecar.records import Entry

from .stats import BoardStats, spoken
from .view import Picture, SilentView, WaitingRequest, frame

RECALLED = 2000
"""Entries that are on the board when it opens: the latest ones."""
KEPT_SECONDS = 60.0
"""How far back rates and lags are kept."""
WAITING_SECONDS = 2.0
"""Seconds between two questions for what waits; more, if the answers take more than a tenth of the time."""
MAX_CACHED_TEXTS = 1000
PIPE_COLUMNS, PIPE_ROWS = 100, 40
"""The size of the picture where there is no terminal."""


class Board:
    """What the board of an index shows, and what it shows it on."""

    def __init__(self, index: Index, view: SilentView, is_running: Callable[[], bool]) -> None:
        self._index = index
        self._view = view
        self._is_running = is_running
        self._seen = BoardStats(time.time())
        self._texts: dict[str, str] = {}
        self._next_frame = self._next_waiting = time.monotonic()
        self._picture = Picture(self._seen, str(index.root), None, title="sidecar top")

    def open(self) -> None:
        """Recall the latest entries. Raises the errors of `Index`."""
        for entry in reversed(list(self._index.timeline(reverse=True, limit=RECALLED))):
            self._seen.recall(entry)

    def run(self, stop: Callable[[], bool]) -> None:
        """Draw until `stop()` is true."""

        def is_over() -> bool:
            self.draw()
            return stop()

        # Opened before anything is drawn: it begins with what comes after this moment.
        news = self._index.follow(stop=is_over)
        with self._view:
            for entry in news:
                now = time.time()
                if entry.timestamp >= self._seen.began:
                    self._seen.take(entry, now)
                else:
                    self._seen.add(entry, now)
                if time.monotonic() >= self._next_frame:
                    self.draw()
                    if stop():
                        return

    def draw(self) -> None:
        """Draw a frame, if one is due."""
        if time.monotonic() < self._next_frame:
            return
        now = time.time()
        self.look(now, self._view.rows)
        self._seen.forget(now - KEPT_SECONDS)
        self._view.draw(self._picture, now)
        self._next_frame = time.monotonic() + self._view.interval

    def look(self, now: float, rows: int) -> Picture:
        """Ask the index for what the picture shows besides the entries that came."""
        picture = self._picture
        try:
            if time.monotonic() >= self._next_waiting:
                began = time.monotonic()
                picture.waiting_count = sum(of_each_day(self._index, DayFacts.waiting))
                entries = list(self._index.waiting(limit=rows))
                picture.waiting = [
                    WaitingRequest(now - one.timestamp, spoken(one), self._words(one)) for one in entries
                ]
                ended = time.monotonic()
                self._next_waiting = ended + max(WAITING_SECONDS, 10 * (ended - began))
            picture.said = [(spoken(entry), self._words(entry)) for entry in self._last_said(rows)]
        except (IndexUnavailable, EntryNotFound):
            # Being replaced: the frame keeps what was known before.
            pass
        picture.state = "" if self._is_running() else "no sidecar is running: nothing new comes"
        return picture

    def _last_said(self, rows: int) -> list[Entry]:
        """The latest entries with an author, the latest first."""
        said = (entry for entry in reversed(self._seen.latest) if entry.author is not None)
        return [entry for _, entry in zip(range(rows), said, strict=False)]

    def _words(self, entry: Entry) -> str:
        if entry.id not in self._texts:
            if len(self._texts) > MAX_CACHED_TEXTS:
                self._texts.clear()
            try:
                self._texts[entry.id] = self._index.text(entry) or entry.event_type
            except SourceError as error:
                self._texts[entry.id] = str(error)
        return self._texts[entry.id]

    # ---- where there is no terminal

    def print_once(self) -> None:
        """Print one picture, without colours."""
        now = time.time()
        picture = self.look(now, PIPE_ROWS)
        console = Console(width=PIPE_COLUMNS, color_system=None, markup=False, highlight=False, emoji=False)
        console.print(frame(picture, now, PIPE_COLUMNS, PIPE_ROWS))

    def as_object(self, rows: int) -> dict[str, Any]:
        """What the board shows, as an object."""
        now = time.time()
        picture = self.look(now, rows)
        return {
            "root": str(self._index.root),
            "running": self._is_running(),
            "messages": self._seen.total,
            "matrix": self._seen.by_author(),
            "roles": [change._asdict() for change in self._seen.changes],
            "waiting": picture.waiting_count,
            "oldest": [
                {"age_seconds": round(one.age, 3), "agents": one.agents, "text": one.text} for one in picture.waiting
            ],
            "said": [{"agents": agents, "text": text} for agents, text in picture.said],
        }
