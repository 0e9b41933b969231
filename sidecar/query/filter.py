"""Which entries are wanted, and where a page of them begins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from sidecar.records import Entry
from sidecar.store.bloom import PENDING

SECONDS_A_DAY = 86400
EPOCH = date(1970, 1, 1).toordinal()
_LAST_SECOND = 253_402_300_799.0
"""Of the year 9999."""


class Place(NamedTuple):
    """Where an entry stands in the order of time."""

    timestamp: float
    file_path: str
    byte_offset: int

    @classmethod
    def of(cls, entry: Entry) -> Place:
        """The place of an entry."""
        return cls(entry.timestamp, entry.file_path, entry.byte_offset)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted. None fits everything."""

    since: float | None = None
    """From this moment on."""
    until: float | None = None
    """Before this moment."""
    agent: str | None = None
    session: str | None = None
    event_type: str | None = None
    pattern: str | None = None
    conversation: str | None = None
    correlation: str | None = None
    after: float | None = None
    """After this moment, and not at it, as the reference's questions have it."""
    pending: bool = False
    """Requests that wait for a response."""

    def texts(self) -> list[str]:
        """The strings that a day must have to have an entry that fits."""
        # What is on the fewest days comes first.
        wanted = (self.correlation, self.session, self.conversation, self.agent, self.event_type, self.pattern)
        return [text for text in (*wanted, PENDING if self.pending else None) if text is not None]

    def may_lie_on(self, day: str) -> bool:
        """Whether an entry of this day can fit; a day's file is named after its UTC date."""
        since = max((moment for moment in (self.since, self.after) if moment is not None), default=None)
        return (since is None or day_of(since) <= day) and (self.until is None or day_of(self.until) >= day)


def day_of(timestamp: float) -> str:
    """The UTC date of a moment, for any moment: beyond the calendar it is the first or the last day."""
    # Not by datetime, which rounds to microseconds, and the last of them before midnight into the next day.
    whole = int(min(max(timestamp, 0.0), _LAST_SECOND) // SECONDS_A_DAY)
    return date.fromordinal(EPOCH + whole).isoformat()
