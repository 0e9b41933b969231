"""The same message, sent again and again."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import suppress
from typing import Any

import orjson

from sidecar.errors import EntryNotFound, SourceError
from sidecar.query.day_facts import DayFacts, is_answer, of_each_day
from sidecar.query.index import Index
from sidecar.times import Time

from .values import Duplicate

LEAST_MESSAGES = 4
MAX_READ = 1000
"""Records of one pair and length that are read, the latest ones: thousands of heartbeats of the same length must
not keep anybody waiting."""

_Key = tuple[str, tuple[str, ...], int]
"""Author, addressees, and length in bytes."""
_Place = tuple[float, str, str, str]
"""Of a message: its time, the place of its entry, its id, and its conversation."""


def duplicates(index: Index, since: Time | None = None, until: Time | None = None) -> tuple[Duplicate, ...]:
    """Messages that were sent at least four times by one agent to the same addressees, answers left out; the most
    frequent first.

    Candidates have the same length in bytes. They are confirmed by reading the records: those with the same `data`,
    but for ids and times, are the same message. A record that is gone from its log is no duplicate.

    Raises BadTime, and the errors of `Index`.
    """
    counts: Counter[_Key] = Counter()
    for of_day in of_each_day(index, _day_lengths, since, until):
        counts.update(of_day)
    wanted = frozenset(key for key, count in counts.items() if count >= LEAST_MESSAGES)
    if not wanted:
        return ()
    places: defaultdict[_Key, list[_Place]] = defaultdict(list)
    for found in of_each_day(index, lambda day: _day_places(day, wanted), since, until):
        for key, of_day_ in found.items():
            places[key] += of_day_
    same = [one for key, group in places.items() for one in _confirmed(index, key, group[-MAX_READ:])]
    return tuple(sorted(same, key=lambda one: (-one.messages, one.since, one.author, one.addressees)))


def _day_lengths(day: DayFacts) -> Counter[_Key]:
    counts: Counter[_Key] = Counter()
    for kind, party, length, entries in day.counts("e.kind", "e.party", "e.byte_length"):
        if not is_answer(day.event_type(kind)):
            author, addressees = day.speakers(kind, party)
            if author is not None and addressees:
                counts[author, addressees, length] += entries
    return counts


def _day_places(day: DayFacts, wanted: frozenset[_Key]) -> dict[_Key, list[_Place]]:
    found: dict[_Key, list[_Place]] = {}
    columns = ("kind", "context", "party", "byte_length")
    for moment, source, offset, kind, context, party, length in day.steps(*columns):
        author, addressees = day.speakers(kind, party)
        if author is None or (key := (author, addressees, length)) not in wanted:
            continue
        if not is_answer(day.event_type(kind)):
            place = (moment, *day.place(source, offset), day.contexts[context][1])
            found.setdefault(key, []).append(place)
    return found


def _confirmed(index: Index, key: _Key, group: list[_Place]) -> list[Duplicate]:
    """The messages among these that are really the same."""
    same: defaultdict[bytes, list[_Place]] = defaultdict(list)
    for place in group:
        with suppress(SourceError, EntryNotFound):
            same[_said(index.read(index.get(place[1])))].append(place)
    author, addressees, length = key
    return [
        Duplicate(
            author,
            addressees,
            len(places),
            places[0][0],
            places[-1][0],
            length,
            places[0][3],
            tuple(id_ for _, _, id_, _ in places),
        )
        for places in same.values()
        if len(places) >= LEAST_MESSAGES
    ]


def _said(record: dict[str, Any]) -> bytes:
    """What a record says: its `data`, or all of it if it has none, without ids and times."""
    return orjson.dumps(_without_ids(record.get("data") or record), option=orjson.OPT_SORT_KEYS, default=str)


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_ids(one) for key, one in value.items() if not _is_id(key)}
    return [_without_ids(one) for one in value] if isinstance(value, list) else value


def _is_id(key: str) -> bool:
    name = key.lower()
    return name in ("id", "uuid", "timestamp", "time", "ts") or name.endswith(("_id", "uuid")) or key.endswith("Id")
