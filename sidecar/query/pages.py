"""Pages of entries, bounded in characters as well as in rows.

A record may name as many participants as fit into a line, so a page of a few hundred rows could take gigabytes. The
rows of a page consist of numbers, and the lists behind the numbers are read in the order of the rows. A page ends when
its lists have enough characters, but not before its first entry (`known.Known.fitting`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sidecar.records import Entry

FIRST_PAGE = 128
"""The number of rows of a first page. Each page after it has twice as many, up to `LARGEST_PAGE`."""
LARGEST_PAGE = 2048
PAGE_CHARACTERS = 1 << 20
"""A page ends when its lists of participants and sets of roles have more characters than this."""


class Position(NamedTuple):
    """The place of an entry in the order of time."""

    timestamp: float
    """Seconds since 1970, UTC."""
    file_path: str
    byte_offset: int

    @classmethod
    def of(cls, entry: Entry) -> Position:
        """The position of an entry."""
        return cls(entry.timestamp, entry.file_path, entry.byte_offset)


def entries_behind(last: Entry, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Those of some entries that come behind another one in the order of time: what follows a page."""
    position = Position.of(last)
    return (one for one in entries if Position.of(one) > position)


class Page(NamedTuple):
    """Some entries, in order."""

    entries: list[Any]
    """Entries; or for each a tuple of the columns that were asked for."""
    is_whole: bool
    """Whether the page has all of the rows; false if it ended early."""
    last: Position | None = None
    """The position of the last entry; None if there is none."""
    last_number: int = 0
    """The number of the last entry; 0 if there is none."""
