"""Rows of one day, as entries and as columns of entries.

A row of the table `entry` consists of numbers. What they stand for is looked up and decoded once (`known.py`), and
shared by the entries that have it. Joining all of it to every row would take three times as long.

Anybody may have made an index file, so every value is checked. One that the sidecar never writes raises TypeError or
ValueError; a number that leads nowhere raises KeyError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from sidecar.errors import UnknownColumn
from sidecar.records import Entry
from sidecar.store.codec import check_columns
from sidecar.store.daily_schema import CHECKSUM_OFFSET

from .known import Known
from .pages import Position

PATH = "f.text || s.stem || s.suffix"
"""SQL for the path of a log, from the tables that `PLACED` joins."""
PLACED = "CROSS JOIN source s ON s.id = e.source CROSS JOIN name f ON f.id = s.folder"
"""SQL that joins the log to `entry e`. CROSS JOIN keeps SQLite from reversing a join."""
ROW = (
    f"e.id, e.timestamp, COALESCE(s.session, s.stem), {PATH}, e.line_number, e.byte_offset, e.has_response,"
    " e.requests_response, e.answered_after, e.checksum, COALESCE(r.text, e.correlation), e.kind, e.context, e.party,"
    " e.roles"
)
"""SQL for the columns of a row, from the tables that `PLACED` and `CORRELATED` join. Each correlation belongs to few
entries, so looking them up apart would save nothing. One that leads nowhere stays a number, which is no text."""
CORRELATED = "LEFT JOIN correlation r ON r.id = e.correlation"
"""SQL that joins the correlation to `entry e`."""
_NUMBER = (int,)
_TYPES: tuple[tuple[type, ...], ...] = (
    *(_NUMBER, (float,), (str,), (str,), _NUMBER, _NUMBER, _NUMBER, _NUMBER),
    *((float, type(None)), _NUMBER, (str, type(None)), _NUMBER, _NUMBER, _NUMBER, _NUMBER),
)
"""The types of the columns of a row."""
_TIMESTAMP, _FILE_PATH, _BYTE_OFFSET, _KIND, _PARTY, _ROLES = 1, 3, 5, 11, 13, 14
"""The places of columns in a row."""

_Draft: Any = type("_Draft", Entry.__bases__, {"__slots__": Entry.__slots__})
"""An entry whose attributes can still be set. Making one and then setting its class to `Entry`, which Python allows for
classes with the same slots, takes a third of the time of a frozen class's constructor."""


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of columns that a caller has given, as a tuple. Raises UnknownColumn if one is not a column, or if none
    is given."""
    if isinstance(names, str):
        raise UnknownColumn(f"columns: a list of names is expected, not the text {names!r}")
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or not names:
        raise UnknownColumn(f"columns: an entry has no {unknown[0]!r}" if unknown else "columns: the list is empty")
    return tuple(names)


class Columns:
    """Rows of a day, selected with `ROW`. To be made and used in the transaction in which the rows were read.

    Args:
        rows: The rows, of which those behind the bound are left out.
        known: What the numbers of the day stand for.
        characters: The bound: the rows end before their lists of participants and sets of roles have more characters,
            but not before the first row. None if the lists are not needed.
    """

    def __init__(self, rows: Sequence[tuple[Any, ...]], known: Known, characters: int | None) -> None:
        self._known = known
        self._columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        self.rows = rows
        if characters is not None:
            count = known.fitting(self._columns[_PARTY], self._columns[_ROLES], characters)
            if count < len(rows):
                self.rows = rows[:count]
                self._columns = [column[:count] for column in self._columns]
        check_columns(self._columns, _TYPES)

    def last(self) -> tuple[int, Position]:
        """The number and the position of the last entry."""
        row = self.rows[-1]
        return row[0], Position(row[_TIMESTAMP], row[_FILE_PATH], row[_BYTE_OFFSET])

    def entries(self) -> list[Entry]:
        """The entries."""
        roles = map(self._known.roles.__getitem__, self._columns[_ROLES])
        return list(map(_entry, self.rows, self._said, self._contexts, roles))

    def tuples(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """A tuple of the values of these columns for each entry."""
        return list(zip(*(_OF[name](self) for name in names), strict=True))

    def _at(self, place: int) -> Sequence[Any]:
        return self._columns[place]

    @cached_property
    def _kinds(self) -> list[tuple[Any, ...]]:
        return self._known.kinds_of(self._columns[_KIND])

    @cached_property
    def _contexts(self) -> list[tuple[str, str, str]]:
        return self._known.contexts_of(self._columns[_KIND + 1])

    @cached_property
    def _said(self) -> list[tuple[Any, ...]]:
        """For each row what its kind says, participants, author and addressees."""
        return self._known.said_of(self._columns[_KIND], self._columns[_PARTY])

    def _ids(self) -> list[str]:
        return [f"{log}:{at}" for log, at in zip(self._columns[2], self._columns[_BYTE_OFFSET], strict=True)]

    def _agent_roles(self) -> list[dict[str, str]]:
        return [roles.copy() for roles in map(self._known.roles.__getitem__, self._columns[_ROLES])]


def _entry(row: tuple[Any, ...], said: tuple[Any, ...], context: tuple[str, str, str], roles: dict[str, str]) -> Entry:
    """The entry of a row."""
    draft = _Draft()
    # Taken apart by position, which costs a third of a loop. fmt: off
    (
        _,
        draft.timestamp,
        log,
        draft.file_path,
        draft.line_number,
        byte_offset,
        has_response,
        requests_response,
        draft.answered_after,
        checksum,
        draft.correlation_id,
        _,
        _,
        _,
        _,
    ) = row
    (
        draft.event_type,
        draft.pattern_type,
        draft.is_completion,
        draft.is_request,
        draft.participating_agents,
        draft.author,
        draft.addressees,
    ) = said
    # fmt: on
    draft.session_id, draft.initiating_agent, draft.conversation_id = context
    draft.id = f"{log}:{byte_offset}"
    draft.byte_offset = byte_offset
    draft.has_response = has_response != 0
    draft.requests_response = requests_response != 0
    draft.agent_roles = roles.copy()
    draft.checksum = checksum + CHECKSUM_OFFSET
    draft.__class__ = Entry
    entry: Entry = draft
    return entry


_OF: dict[str, Callable[[Columns], Sequence[Any]]] = {
    "id": Columns._ids,
    "timestamp": lambda of: of._at(_TIMESTAMP),
    "event_type": lambda of: [kind[0] for kind in of._kinds],
    "session_id": lambda of: [context[0] for context in of._contexts],
    "file_path": lambda of: of._at(_FILE_PATH),
    "line_number": lambda of: of._at(4),
    "byte_offset": lambda of: of._at(_BYTE_OFFSET),
    "initiating_agent": lambda of: [context[1] for context in of._contexts],
    "participating_agents": lambda of: [said[4] for said in of._said],
    "agent_roles": Columns._agent_roles,
    "pattern_type": lambda of: [kind[1] for kind in of._kinds],
    "conversation_id": lambda of: [context[2] for context in of._contexts],
    "correlation_id": lambda of: of._at(10),
    "is_completion": lambda of: [kind[2] for kind in of._kinds],
    "is_request": lambda of: [kind[3] for kind in of._kinds],
    "has_response": lambda of: list(map(bool, of._at(6))),
    "requests_response": lambda of: list(map(bool, of._at(7))),
    "author": lambda of: [said[5] for said in of._said],
    "addressees": lambda of: [said[6] for said in of._said],
    "answered_after": lambda of: of._at(8),
}
COLUMNS = tuple(_OF)
"""The columns of an entry, in the order of its attributes."""
