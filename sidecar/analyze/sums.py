"""Sums of days that are over, kept in `index/summary/`, so that questions about many days need not read their entries.

They are derived and may be deleted at any time. A file of sums says which daily file it was made from: inode, size and
modification time, those of its write-ahead log too. It counts only as long as the daily file is still that one, so it
never tells of entries that have changed since. Files that are damaged, or of another version, count as missing.

Reading commands never write here: `keep_sums` does, which `sidecar analyze keep` calls.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import orjson

from sidecar.errors import ForeignFile
from sidecar.fs import MTIME_GRANULARITY
from sidecar.guarded import GuardedFolder
from sidecar.permissions import permissions_of, restrict
from sidecar.query.day_facts import DayFacts, index_folder, of_each_day
from sidecar.query.index import Index
from sidecar.store.layout import DAILY_NAME, SUMMARY, file_stamp
from sidecar.times import SECONDS_PER_DAY, Time, day_number, day_of

from .answers import Answers, Counts, Pair, day_agents, day_edges, day_pairs, day_roles

VERSION = 1
"""Of the files, and of what is counted."""
SUFFIX = ".sums"
MAX_BYTES = 1 << 28
"""The largest file that is read."""

K = TypeVar("K")
Name = str | None
_INTEGERS, _FLOATS = "q", "d"


@dataclass(frozen=True, slots=True)
class KeptSums:
    """What `keep_sums` did."""

    days: int
    """Days that are over."""
    written: int
    """Those of them that were summed up now."""


# ---- reading


def edges_of_days(index: Index, since: Time | None, until: Time | None) -> list[Mapping[Pair, Counts]]:
    """The edges of each day, from its sums if they are kept."""
    return _of_days(index, day_edges, "edges", _read_counts, since, until)


def pairs_of_days(index: Index, since: Time | None, until: Time | None) -> list[Mapping[Pair, Answers]]:
    """The requests of each day by author and addressee, from its sums if they are kept."""
    return _of_days(index, day_pairs, "pairs", _read_answers, since, until)


def agents_of_days(index: Index, since: Time | None, until: Time | None) -> list[Mapping[str, Answers]]:
    """The requests of each day by addressee, from its sums if they are kept."""
    return _of_days(index, day_agents, "agents", _read_answers, since, until)


def roles_of_days(index: Index, since: Time | None, until: Time | None) -> list[Mapping[str | None, Answers]]:
    """The requests of each day by role of the addressee, from its sums if they are kept."""
    return _of_days(index, day_roles, "roles", _read_answers, since, until)


def _of_days(
    index: Index,
    question: Callable[[DayFacts], Mapping[K, Any]],
    table: str,
    read: Callable[[Any, memoryview], Mapping[K, Any]],
    since: Time | None,
    until: Time | None,
) -> list[Mapping[K, Any]]:
    folder = index_folder(index)

    def answer(day: DayFacts) -> Mapping[K, Any]:
        if day.is_whole:
            kept = _read(folder, day.day, _identity(day.path))
            if kept is not None:
                header, body = kept
                with suppress(KeyError, IndexError, TypeError, ValueError):
                    return read(header["tables"][table], body)
        return question(day)

    return of_each_day(index, answer, since, until)


def _read(folder: Path, day: str, identity: list[int] | None) -> tuple[dict[str, Any], memoryview] | None:
    """The header and the numbers of a day's sums; None if there are none of this daily file."""
    try:
        with GuardedFolder.open_to_read(folder) as index, index.folder(SUMMARY) as kept:
            content = kept.read(f"{day}{SUFFIX}", MAX_BYTES)
        first, _, rest = content.partition(b"\n")
        header: dict[str, Any] = orjson.loads(first)
        is_right = header["identity"] == identity and header["made"] == [VERSION, sys.byteorder]
        if identity is None or not is_right or header["checksum"] != crc32(rest):
            return None
        return header, memoryview(rest)
    except (OSError, ForeignFile, KeyError, TypeError, ValueError):
        return None


def _identity(path: Path) -> list[int] | None:
    """Which file a daily file is, and when it was last written; None within the granularity of the clock, in which a
    change would not show."""
    status, log = file_stamp(path)
    if status is None:
        return None
    # An empty write-ahead log is one that any reader may leave.
    beside = [log.size, log.mtime_ns] if log is not None and log.size else [0, 0]
    if time.time_ns() - max(status.mtime_ns, beside[1]) < MTIME_GRANULARITY:
        return None
    return [status.identity[1], status.size, status.mtime_ns, *beside]


# ---- writing


def keep_sums(index: Index) -> KeptSums:
    """Sum up the days that are over and have no sums yet, and delete sums of days that are gone.

    The only function here that writes, and only below `index/summary/`. Any number of processes may do so at once.
    Raises the errors of `Index`, and OSError or SidecarError if the folder cannot be written.
    """
    folder = index_folder(index)
    today = day_of(time.time())
    days = {day: path for day, path in of_each_day(index, lambda day: (day.day, day.path)) if day < today}
    written = 0
    with GuardedFolder.open_own(folder) as own, own.folder(SUMMARY, create=True) as target:
        for name in target.names():
            if name.removesuffix(SUFFIX) not in days:
                target.delete(name)
        for day, path in sorted(days.items()):
            if _read(folder, day, _identity(path)) is not None:
                continue
            content = _summed(index, day)
            if content is not None:
                target.write(f"{day}{SUFFIX}", content)
                written += 1
    # Whoever may not read the daily files may not read their sums.
    restrict(folder, permissions_of([folder, folder / DAILY_NAME]), lambda name: name == SUMMARY)
    return KeptSums(len(days), written)


def _summed(index: Index, name: str) -> bytes | None:
    """The sums of a day, as they are kept; None if it is being written to."""

    def question(day: DayFacts) -> bytes | None:
        before = _identity(day.path)
        if day.day != name or before is None:
            return None
        tables = (day_edges(day), day_pairs(day), day_agents(day), day_roles(day))
        return _encoded(before, *tables) if _identity(day.path) == before else None

    begin = float(day_number(name) * SECONDS_PER_DAY)
    return next(iter(of_each_day(index, question, begin, begin + SECONDS_PER_DAY)), None)


def _encoded(identity: list[int], edges: Mapping[Any, Counts], *answers: Mapping[Any, Answers]) -> bytes:
    body = bytearray()
    tables = {"edges": _write_counts(edges, body)}
    for name, found in zip(("pairs", "agents", "roles"), answers, strict=True):
        tables[name] = _write_answers(found, body)
    header = {
        "made": [VERSION, sys.byteorder],
        "identity": identity,
        "checksum": crc32(body),
        "tables": tables,
    }
    return orjson.dumps(header) + b"\n" + bytes(body)


# ---- tables: names in the header, numbers in the body


def _write_counts(edges: Mapping[Pair, Counts], body: bytearray) -> dict[str, Any]:
    return _write(edges, [(_INTEGERS, column) for column in zip(*edges.values(), strict=True)], body)


def _read_counts(table: Any, body: memoryview) -> dict[Any, Counts]:
    keys, columns = _columns(table, body)
    return dict(zip(keys, map(list, zip(*columns, strict=True)), strict=True))


def _write_answers(found: Mapping[Any, Answers], body: bytearray) -> dict[str, Any]:
    all_of_them = list(found.values())
    columns: list[tuple[str, Iterable[float]]] = [
        (_INTEGERS, [one.asked for one in all_of_them]),
        (_INTEGERS, [one.answered for one in all_of_them]),
        (_INTEGERS, [one.errors for one in all_of_them]),
        (_INTEGERS, [len(one.times) for one in all_of_them]),
        (_FLOATS, [moment for one in all_of_them for moment in one.times]),
    ]
    return _write(found, columns, body)


def _read_answers(table: Any, body: memoryview) -> dict[Any, Answers]:
    keys, (asked, answered, errors, lengths, times) = _columns(table, body)
    found = {}
    begin = 0
    for key, one, two, three, length in zip(keys, asked, answered, errors, lengths, strict=True):
        found[key] = Answers(one, two, three, times[begin : begin + length].tolist())
        begin += length
    return found


def _write(keys: Iterable[Any], columns: list[tuple[str, Iterable[float]]], body: bytearray) -> dict[str, Any]:
    names: dict[Name, int] = {}
    parts = [key if isinstance(key, tuple) else (key,) for key in keys]
    numbers = [[names.setdefault(name, len(names)) for name in part] for part in parts]
    places = []
    for kind, values in [*((_INTEGERS, column) for column in zip(*numbers, strict=True)), *columns]:
        packed = array(kind, values).tobytes()
        places.append([kind, len(body), len(packed)])
        body += packed
    return {"names": list(names), "parts": len(numbers[0]) if numbers else 0, "columns": places}


def _columns(table: Any, body: memoryview) -> tuple[Iterator[Any], list[array[Any]]]:
    """The keys and the columns of a table."""
    columns = []
    for kind, begin, length in table["columns"]:
        column = array(kind)
        column.frombytes(body[begin : begin + length])
        columns.append(column)
    names, parts = table["names"], table["parts"]
    named = [map(names.__getitem__, column) for column in columns[:parts]]
    return (named[0] if parts == 1 else zip(*named, strict=True)) if parts else iter(()), columns[parts:]
