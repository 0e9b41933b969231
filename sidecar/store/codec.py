"""Rows of an index file to values, and the state of a source to bytes and back.

An index may come from anybody, and SQLite stores a text where a number should be: a value that the sidecar never writes
raises TypeError or ValueError, and the caller names the file. State is JSON, compressed where it is long.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import accumulate
from operator import sub
from typing import Any

import orjson

from sidecar.records import Entry
from sidecar.times import YEAR_10000

from .daily_schema import CHECKSUM_OFFSET

_COLUMNS = (str, float, str, str, str, int, int, *(str,) * 6, int, int, int, int)
"""What the columns of the view hold; and where there is no correlation."""
_COLUMNS_UNCORRELATED = (*_COLUMNS[:12], type(None), *_COLUMNS[13:])
_NO_ROLES: dict[str, str] = {}


def decode_entry(row: tuple[Any, ...]) -> Entry:
    """The entry in a row: 17 columns, three of its kind (see `speakers`), `answered_after`, its checksum."""
    *values, has_author, addressees, self_place, answered_after, checksum = row
    checked_columns(values)
    agents = values[8] = tuple(agents_of(values[8]))
    values[9] = _roles(values[9])
    values[13:17] = map(bool, values[13:17])
    values += (*speakers(agents, has_author, addressees, self_place), checked_seconds(answered_after))
    entry = Entry(*values)
    object.__setattr__(entry, "checksum", checksum + CHECKSUM_OFFSET)
    return entry


def speakers(agents: tuple[str, ...], has_author: Any, count: Any, self_place: Any) -> tuple[Any, tuple[str, ...]]:
    """The author, or None, and the addressees among participants, from the columns of `kind` that tell them apart.

    Raises TypeError or ValueError for what is never written.
    """
    if any(value.__class__ is not int for value in (has_author, count, self_place)):
        raise TypeError(f"has_author {has_author!r}, addressees {count!r}, self_place {self_place!r}")
    if not 0 <= has_author <= 1 or not 0 <= count <= len(agents) - has_author or not 0 <= self_place <= count + 1:
        raise ValueError(f"{count} addressees among {len(agents)} participants, the author at {self_place}")
    addressees = agents[has_author : has_author + count]
    if self_place:
        addressees = (*addressees[: self_place - 1], *agents[:1], *addressees[self_place - 1 :])
    return (agents[0] if has_author else None), addressees


def checked_seconds(value: Any) -> float | None:
    """A difference of two times, or None; else TypeError."""
    if value is not None and (value.__class__ is not float or not -YEAR_10000 <= value <= YEAR_10000):
        raise TypeError(f"{value!r} seconds")
    seconds: float | None = value
    return seconds


def checked_row(row: Any, types: tuple[type, ...]) -> Any:
    """The row, which has just these types, and no moment beyond the calendar; else TypeError."""
    if tuple(map(type, row)) != types or (float in types and not _in_calendar(row)):
        raise TypeError(f"a row of {', '.join(type(value).__name__ for value in row)}")
    return row


def checked_columns(row: Any) -> Any:
    """The row, which has what the columns of the view hold; else TypeError."""
    return checked_row(row, _COLUMNS if row[12] is not None else _COLUMNS_UNCORRELATED)


def _in_calendar(row: Any) -> bool:
    return all(0.0 <= value <= YEAR_10000 for value in row if value.__class__ is float)


def agents_of(text: str) -> list[str]:
    """The names in `participating_agents`."""
    agents = orjson.loads(text)
    if agents.__class__ is not list or not all(agent.__class__ is str for agent in agents):
        raise TypeError("participants that are no list of names")
    return agents


def _roles(text: str) -> dict[str, str]:
    roles = _NO_ROLES if text == "{}" else orjson.loads(text)
    if roles.__class__ is not dict or not all(role.__class__ is str for role in roles.values()):
        raise TypeError("roles that are no object of names")
    return dict(roles)


# ---- state

COMPRESS_ABOVE = 256
"""Bytes up to which compressing saves little, and costs more than all else that is done to save a source."""
MAX_STATE_BYTES = 1 << 28
"""Bytes of a state; what is longer was not packed here."""


def encode_state(state: dict[str, Any]) -> bytes:
    """The bytes of a state."""
    plain = orjson.dumps(state)
    return plain if len(plain) <= COMPRESS_ABOVE else zlib.compress(plain, 1)


def decode_state(packed: bytes) -> dict[str, Any]:
    """The state again; raises ValueError, TypeError or zlib.error for what was not packed here."""
    plain = packed if packed.startswith(b"{") else zlib.decompressobj().decompress(packed, MAX_STATE_BYTES)
    state: dict[str, Any] = orjson.loads(plain)
    return state


def pack_places(places: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Days and byte offsets, each as its difference from the one before: these compress to two thirds."""
    days, offsets = [0], [0]
    for day, offset in places:
        days.append(day)
        offsets.append(offset)
    return list(map(sub, days[1:], days)), list(map(sub, offsets[1:], offsets))


def unpack_places(packed: tuple[list[int], list[int]]) -> Iterator[tuple[int, int]]:
    """The places again; raises TypeError or ValueError for what was not packed here."""
    days, offsets = packed
    return zip(accumulate(days), accumulate(offsets), strict=True)
