"""What one transaction of a push brings, gathered before it begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .feed import Log
from .values import FeedRow


@dataclass(slots=True)
class HubCursor:
    """How far a file is at the hub: its row in `hub.source`."""

    id: int
    log: int
    path: str
    generation: int
    offset: int
    entries: int
    closed: int


@dataclass(slots=True)
class FileRows:
    """New rows of a file."""

    path: str
    """As the hub has it."""
    stem: str
    cursor: HubCursor | None
    """Where the hub is; None if the file is new there."""
    first: int
    last: int
    """The byte up to which the rows go."""
    rows: list[FeedRow] = field(default_factory=list)
    closed: int = 0
    """The number of rows that are left out because their day is closed."""
    rejected: list[tuple[int, int, int, str]] = field(default_factory=list)
    """Byte offset, line number, length and reason."""


@dataclass(slots=True)
class LogRows:
    """What has changed in a log."""

    log: Log
    path: str
    """As the hub has it."""
    begins: bool
    """Whether the rows that the hub has of it go first."""
    old: list[HubCursor]
    """All files of the log that the hub has."""
    files: list[FileRows] = field(default_factory=list)
    updates: list[tuple[int, int, float, int, str | None, float | None]] = field(default_factory=list)
    """Of requests that the hub has: source, byte offset and timestamp; response, correlation and `answered_after`."""
    sessions: list[tuple[Any, ...]] = field(default_factory=list)
    is_whole: bool = True
    """Whether the hub has all that the catalog counts, with these."""

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(len(file.rows) + len(file.rejected) for file in self.files) + len(self.updates)


@dataclass(slots=True)
class PushBatch:
    """Changes of some logs that go in one transaction."""

    logs: list[LogRows] = field(default_factory=list)
    days: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """The number of rows, and one for each log, because cursors cost too."""
        return sum(one.count for one in self.logs) + len(self.logs)
