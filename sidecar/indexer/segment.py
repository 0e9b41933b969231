"""Parts of daily files, as a process of a bulk load writes them: rows without indexes, journal or sync.

A part is never looked into while it is written: what it knows, it remembers. When all parts of a process remember too
much, the one that remembers most is ended, and the day goes on in another; `merge.py` makes a daily file of all parts
of a day. So memory is bounded whatever the logs hold, and a day may come again at any time.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from sidecar.ingest.source import Batch
from sidecar.records import Answered, Row
from sidecar.store.connection import create_part

from .dictionary import Codes

REMEMBERED = 400_000
"""Strings and combinations that the open parts of a process remember together, at most; some 120 bytes each."""

OPEN_PARTS = 64
"""Parts open at once, at most; each has a descriptor and a cache."""

LATE = "INSERT INTO late (source, byte_offset, correlation) VALUES (?, ?, ?)"


class Part:
    """One part of one day."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = create_part(path)
        self._database.execute_sql("BEGIN")
        self._codes = Codes(self._database, is_new=True)

    @property
    def remembered(self) -> int:
        """How many things are remembered."""
        return self._codes.remembered

    def write(self, path: str, rows: list[Row], answered: dict[int, Answered]) -> None:
        """Add rows of one log file, and note which earlier requests are answered."""
        self._codes.insert(path, rows, answered)
        if answered:
            source = self._codes.place(path, 0).number
            late = [
                (source, one.byte_offset, None if one.correlation_id is None else self._codes.label(one.correlation_id))
                for one in answered.values()
            ]
            self._database.connection().executemany(LATE, late)

    def close(self) -> None:
        """End it."""
        self._codes.flush()
        self._database.execute_sql("COMMIT")
        self._database.close()


class Parts:
    """All parts that one process writes, below a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, Part] = {}
        self._made: defaultdict[int, list[Path]] = defaultdict(list)
        self._count = 0
        self._remembered = 0
        """By all that are open."""
        folder.mkdir(parents=True)

    def write(self, batch: Batch) -> None:
        """Take in what some lines of a log file became."""
        for day, (rows, answered) in batch.by_day().items():
            part = self._part(day)
            before = part.remembered
            part.write(batch.path, rows, answered)
            self._remembered += part.remembered - before
        while self._open and self._remembered > REMEMBERED:
            self._end_largest()

    def _part(self, day: int) -> Part:
        part = self._open.get(day)
        if part is None:
            if len(self._open) >= OPEN_PARTS:
                self._end_largest()
            made = self._made[day]
            self._count += 1
            made.append(self._folder / f"{day}-{self._count}.part")
            part = self._open[day] = Part(made[-1])
        return part

    def _end_largest(self) -> None:
        largest = max(self._open, key=lambda day: self._open[day].remembered)
        part = self._open.pop(largest)
        self._remembered -= part.remembered
        part.close()

    def close(self) -> dict[int, list[Path]]:
        """End all that are open; gives the parts of each day, in the order of their rows. More may be written after."""
        while self._open:
            self._open.popitem()[1].close()
        self._remembered = 0
        made, self._made = self._made, defaultdict(list)
        return dict(made)
