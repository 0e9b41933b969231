"""Rows of an index file to values, and the state of a source to bytes and back.

An index may come from anybody, and SQLite stores a text where a number should be: a value that the sidecar never writes
raises TypeError or ValueError, and the caller names the file. State is JSON, compressed where it is long.
"""

from __future__ import annotations

import zlib
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
    """The entry in a row: its number, the 17 columns, and the checksum of its bytes."""
    _, *values, checksum = row
    checked_columns(values)
    values[8] = tuple(agents_of(values[8]))
    values[9] = _roles(values[9])
    values[13:17] = map(bool, values[13:17])
    entry = Entry(*values)
    object.__setattr__(entry, "checksum", checksum + CHECKSUM_OFFSET)
    return entry


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
