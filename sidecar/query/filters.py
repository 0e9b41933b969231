"""Which entries are asked for, and the SQL that says so."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sidecar.store.bloom import PENDING
from sidecar.store.daily_schema import SLOT_OF_DAY
from sidecar.times import Time, day_of, moment_of

from .arguments import as_indexed
from .columns import CORRELATED, PATH, PLACED, ROW

SLOT = SLOT_OF_DAY.replace("timestamp", "e.timestamp")
"""SQL for the slot of an entry (`SLOT_OF_DAY`)."""
CHOSEN = f"SELECT {ROW} FROM entry e {{hint}} {PLACED} {CORRELATED} WHERE "
"""SQL that selects rows; `hint` may name the index that is to be used."""
_STRINGS = ("correlation", "session", "conversation", "agent", "event_type", "pattern")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are asked for: those that match all of these fields. None matches everything. Times are in seconds
    since 1970. Names and ids are as the index has them, whatever they are made from."""

    since: float | None = None
    """Entries at this time or later."""
    until: float | None = None
    """Entries before this time."""
    agent: str | None = None
    """A participant."""
    session: str | None = None
    event_type: str | None = None
    pattern: str | None = None
    conversation: str | None = None
    correlation: str | None = None
    after: float | None = None
    """Entries later than this time, and not at it: the reference's queries compare with `>`."""
    pending: bool = False
    """Only waiting requests."""

    def __post_init__(self) -> None:
        """Raises BadArgument."""
        for what in _STRINGS:
            if (text := getattr(self, what)) is not None:
                object.__setattr__(self, what, as_indexed(text, what))

    @classmethod
    def of(
        cls,
        since: Time | None,
        until: Time | None,
        agent: str | None = None,
        session: str | None = None,
        event_type: str | None = None,
        pattern: str | None = None,
        conversation: str | None = None,
        correlation: str | None = None,
    ) -> Filter:
        """A filter between two times as people give them. Raises BadTime and BadArgument."""
        now = time.time()
        return cls(
            None if since is None else moment_of(since, now),
            None if until is None else moment_of(until, now),
            *(agent, session, event_type, pattern, conversation, correlation),
        )

    def texts(self) -> list[str]:
        """The strings of which a day without one has no matching entry: what to look up in the day filters."""
        # Those first that are on the fewest days.
        wanted = (self.correlation, self.session, self.conversation, self.agent, self.event_type, self.pattern)
        return [text for text in (*wanted, PENDING if self.pending else None) if text is not None]

    def may_lie_on(self, day: str) -> bool:
        """Whether a day (`YYYY-MM-DD`) can have entries in the time that is asked for."""
        since = max((moment for moment in (self.since, self.after) if moment is not None), default=None)
        return (since is None or day_of(since) <= day) and (self.until is None or day_of(self.until) >= day)


@lru_cache(64)
def numbers_of(wanted: Filter) -> tuple[list[str], str, list[str]]:
    """How to find the numbers of the strings that are asked for: the fields of the filter, a statement that selects a
    number for each, and its parameters. Cached, because each day is asked."""
    given = [what for what in _STRINGS if getattr(wanted, what) is not None]
    tables = ("correlation" if what == "correlation" else "name" for what in given)
    sql = ", ".join(f"(SELECT id FROM {table} WHERE text = ?)" for table in tables)
    return given, f"SELECT {sql}", [getattr(wanted, what) for what in given]


@dataclass(slots=True)
class Where:
    """An SQL condition on `entry e`."""

    terms: list[str]
    """Joined by AND."""
    values: list[Any]
    """The parameters of the terms."""
    is_in_runs: bool = False
    """Whether the entries are in several runs of an index, each of which is in the order of time."""
    index: str = ""
    """The index in the order of time that is to be walked, if nothing narrower is asked for. If empty, the entries are
    found in the order of the day's slots (`SLOT_OF_DAY`)."""

    def add(self, term: str, *values: Any) -> None:
        self.terms.append(term)
        self.values += values

    def add_times(self, wanted: Filter) -> None:
        """Add the limits of time."""
        for comparison, moment in ((">=", wanted.since), ("<", wanted.until), (">", wanted.after)):
            if moment is not None:
                self.add_time(comparison, moment)

    def add_time(self, comparison: str, moment: float) -> None:
        # `+` keeps SQLite from using the index on time if something narrower is asked for.
        self.add(f"{'' if self.index else '+'}e.timestamp {comparison} ?", moment)

    def chosen(self, columns: str = ROW, joins: str = CORRELATED) -> str:
        """SQL that selects the rows, or other columns of the same entries."""
        hint = f"INDEXED BY {self.index}" if self.index else ""
        return f"SELECT {columns} FROM entry e {hint} {PLACED} {joins} WHERE {' AND '.join(self.terms) or '1'}"

    def order(self, reverse: bool = False) -> str:
        """SQL for the order of time, or its reverse."""
        way = " DESC" if reverse else ""
        slot = "" if self.index else f"{SLOT}{way}, "
        return f"{slot}e.timestamp{way}, {PATH}{way}, e.byte_offset{way}"
