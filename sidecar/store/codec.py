"""Decode the rows of an index file, and encode and decode the state of a source.

Anybody may have made an index file, and SQLite stores text even in a column of numbers. So every value is checked: one
that the sidecar never writes raises TypeError or ValueError, and the caller adds the name of the file. A state is JSON,
compressed if it is long.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import sub
from typing import Any

import orjson

from sidecar.times import YEAR_10000

_COLUMNS = (str, float, str, str, str, int, int, *(str,) * 6, int, int, int, int)
"""The types of the view's 17 columns."""
_COLUMNS_UNCORRELATED = (*_COLUMNS[:12], type(None), *_COLUMNS[13:])
"""The same where `correlation_id` is NULL."""


_TEXT = frozenset((str,))


def speakers(agents: tuple[str, ...], has_author: Any, count: Any, self_place: Any) -> tuple[Any, tuple[str, ...]]:
    """The author (or None) and the addressees among the participants `agents`. The other arguments are columns of
    `daily_schema.EventKind`: `has_author`, `addressees` and `self_place`.

    Raises TypeError or ValueError for values that the sidecar never writes.

    >>> speakers(("a", "b", "c"), 1, 1, 0)
    ('a', ('b',))
    """
    if not (has_author.__class__ is count.__class__ is self_place.__class__ is int):
        raise TypeError(f"has_author {has_author!r}, addressees {count!r}, self_place {self_place!r}")
    if not 0 <= has_author <= 1 or not 0 <= count <= len(agents) - has_author or not 0 <= self_place <= count + 1:
        raise ValueError(f"{count} addressees among {len(agents)} participants, the author at {self_place}")
    addressees = agents[has_author : has_author + count]
    if self_place:
        addressees = (*addressees[: self_place - 1], *agents[:1], *addressees[self_place - 1 :])
    return (agents[0] if has_author else None), addressees


def check_columns(columns: Sequence[Sequence[Any]], types: Sequence[tuple[type, ...]]) -> None:
    """Check rows that are given as columns: every value must have one of the types of its column, a float that cannot
    be None must be a time from 1970 to 9999, and one that can be None a difference of two such times. Raises TypeError
    or ValueError. No columns stand for no rows."""
    for values, kinds in zip(columns, types, strict=False):
        found = set(map(type, values))
        if not found.issubset(kinds):
            raise TypeError(f"a column of {', '.join(sorted(kind.__name__ for kind in found))}")
        if float in found:
            numbers = [value for value in values if value is not None] if len(kinds) > 1 else values
            least = 0.0 if len(kinds) == 1 else -YEAR_10000
            if not least <= min(numbers) <= max(numbers) <= YEAR_10000:
                raise ValueError(f"a time of {min(numbers)!r} or {max(numbers)!r}")


def checked_seconds(value: Any) -> float | None:
    """The value, if it is None or a difference of two times in seconds. Raises TypeError for anything else."""
    if value is not None and (value.__class__ is not float or not -YEAR_10000 <= value <= YEAR_10000):
        raise TypeError(f"{value!r} seconds")
    seconds: float | None = value
    return seconds


def checked_row(row: Any, types: tuple[type, ...]) -> Any:
    """The row, if its values have exactly these types and every float is a time from 1970 to 9999. Raises TypeError for
    any other row."""
    if tuple(map(type, row)) != types or (float in types and not _in_calendar(row)):
        raise _of_other_types(row)
    return row


def _of_other_types(row: Any) -> TypeError:
    return TypeError(f"a row of {', '.join(type(value).__name__ for value in row)}")


def checked_columns(row: Any) -> Any:
    """The row, if its values have the types of the view's columns. Raises TypeError for any other row."""
    return checked_row(row, _COLUMNS if row[12] is not None else _COLUMNS_UNCORRELATED)


def _in_calendar(row: Any) -> bool:
    return all(0.0 <= value <= YEAR_10000 for value in row if value.__class__ is float)


def agents_of(text: str) -> list[str]:
    """The names in the text of `participating_agents`. Raises TypeError or ValueError unless it is a JSON array of
    strings."""
    agents = orjson.loads(text)
    if agents.__class__ is not list or not _TEXT.issuperset(map(type, agents)):
        raise TypeError("participating_agents is not an array of strings")
    return agents


def roles_of(text: str) -> dict[str, str]:
    """The roles in the text of `agent_roles`, by agent. Raises TypeError or ValueError unless it is a JSON object of
    strings."""
    roles = orjson.loads(text)
    if roles.__class__ is not dict or not _TEXT.issuperset(map(type, roles.values())):
        raise TypeError("agent_roles is not an object of strings")
    found: dict[str, str] = roles
    return found


# ---- state

COMPRESS_ABOVE = 256
"""Bytes up to which a state is not compressed: it would save little, and cost more than everything else that is done to
save a source."""
MAX_STATE_BYTES = 1 << 28
"""Bytes up to which a state is decompressed. The sidecar writes none that is longer; one that is does not decode."""


def encode_state(state: dict[str, Any]) -> bytes:
    """The bytes that the catalog stores for a state."""
    plain = orjson.dumps(state)
    return plain if len(plain) <= COMPRESS_ABOVE else zlib.compress(plain, 1)


def decode_state(packed: bytes) -> dict[str, Any]:
    """The state that `encode_state` was given. Raises ValueError, TypeError or zlib.error for bytes from elsewhere."""
    plain = packed if packed.startswith(b"{") else zlib.decompressobj().decompress(packed, MAX_STATE_BYTES)
    state: dict[str, Any] = orjson.loads(plain)
    return state


def pack_places(places: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Days and byte offsets, each as the difference from the one before, which compresses to two thirds of the size."""
    days, offsets = [0], [0]
    for day, offset in places:
        days.append(day)
        offsets.append(offset)
    return list(map(sub, days[1:], days)), list(map(sub, offsets[1:], offsets))


def unpack_places(packed: tuple[list[int], list[int]]) -> Iterator[tuple[int, int]]:
    """The days and byte offsets that `pack_places` was given. Raises TypeError or ValueError for lists from
    elsewhere, also while they are iterated over."""
    days, offsets = packed
    return zip(accumulate(days), accumulate(offsets), strict=True)
