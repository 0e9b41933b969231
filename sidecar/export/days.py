"""Write a file a day, and not again while the day is the same.

    DIR/day=2024-12-29/entries.parquet
    DIR/day=2024-12-29/_entries.parquet.json    what the file was made from

Beside each file lies a note: which version of the export made it, of which part of the day; a hash over all values in
it; size and modification time of the file itself; and what the files of the index looked like. If the index's files
look as they did, the day is not even read. Otherwise it is read, and the new file takes the place of the old one only
if the hash differs. The looks of the index are noted only if they had been the same for two seconds when the day was
read, so that no change within the granularity of a file's time is missed. A note is deleted before its file is
replaced, and written after it: whenever a process is killed, a note never vouches for another file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from sidecar.errors import ConfigError
from sidecar.fs import try_file_stat
from sidecar.query.columns import COLUMNS
from sidecar.query.index import Index
from sidecar.records import Report, Reporter
from sidecar.times import SECONDS_PER_DAY, day_number

from .entry_files import FileKind, Rows
from .whole_file import drafted, write_whole

SETTLED = 2.0
"""Seconds without a change after which the looks of a file are trusted."""
REPORT_ROWS = 4096
"""Entries between two reports."""


class ExportedDay(NamedTuple):
    """A day in an export."""

    day: str
    path: Path
    entries: int | None
    """None if the day was not read."""
    is_written: bool
    """False if the file was there already."""


def export(
    index: Index,
    folder: Path,
    kind: FileKind,
    since: float | None = None,
    until: float | None = None,
    report: Reporter = lambda _: None,
) -> Iterator[ExportedDay]:
    """Write the entries from `since` on and before `until`, a file a day below a folder, which is made. A day without
    such an entry has no file. Files of days that the index no longer has stay.

    Raises ConfigError if the folder lies in the root or in the index, OSError if a file cannot be written, and the
    errors of `Index.timeline`.
    """
    if any(folder.resolve().is_relative_to(one.resolve()) for one in (index.root, index.index_folder)):
        raise ConfigError(f"{folder} lies among the logs or in the index", hint="name a folder outside of them")
    days = [one for one in index.days() if _part_of(one, since, until) is not None]
    sizes = [sum(stat.size for stat in index.day_stamp(day) if stat) for day in days]
    done = entries = 0
    for day, size in zip(days, sizes, strict=True):

        def read(count: int, done: int = done, size: int = size, entries: int = entries) -> None:
            share = min(1.0, count * 160 / size) if size else 1.0
            report(Report("exporting", done + int(share * size), sum(sizes), entries + count))

        exported = _export_day(index, folder / f"day={day}", day, kind, since, until, read)
        done, entries = done + size, entries + ((exported and exported.entries) or 0)
        if exported is not None:
            yield exported


def _part_of(day: str, since: float | None, until: float | None) -> tuple[float | None, float | None] | None:
    """The limits that lie within a day; None if nothing of the day is asked for."""
    begin = day_number(day) * SECONDS_PER_DAY
    end = begin + SECONDS_PER_DAY
    if (since is not None and since >= end) or (until is not None and until <= begin):
        return None
    return (
        since if since is not None and since > begin else None,
        until if until is not None and until < end else None,
    )


def _export_day(
    index: Index,
    folder: Path,
    day: str,
    kind: FileKind,
    since: float | None,
    until: float | None,
    read: Callable[[int], None],
) -> ExportedDay | None:
    target = folder / kind.name
    note = folder / f"_{kind.name}.json"
    made_from = {"version": kind.version, "part": _part_of(day, since, until)}
    before = _read_note(note, target)
    stamp = _settled_stamp(index, day)
    if stamp is not None and before == {**before, **_plain(made_from), "index": stamp}:
        return ExportedDay(day, target, None, False)

    begin = float(day_number(day) * SECONDS_PER_DAY)
    limits = (max(begin, since or begin), min(begin + SECONDS_PER_DAY, until or begin + SECONDS_PER_DAY))
    rows = _Hashed(index.timeline(*limits, columns=COLUMNS), read)
    folder.mkdir(parents=True, exist_ok=True)
    with drafted(target) as draft:
        kind.write(draft.file, rows)
        if not rows.count:
            draft.discard()
            with suppress(OSError):
                folder.rmdir()
            return None
        found = {**made_from, "entries": rows.count, "hash": rows.hash.hexdigest(), "index": stamp}
        is_new = before.get("hash") != found["hash"] or before.get("version") != kind.version
        if is_new:
            note.unlink(missing_ok=True)
            status = draft.finish()
            found["file"] = [status.st_size, status.st_mtime_ns]
        else:
            found["file"] = before["file"]
    write_whole(note, orjson.dumps(found) + b"\n")
    return ExportedDay(day, target, rows.count, is_new)


class _Hashed:
    """Rows, counted and hashed as they pass."""

    def __init__(self, rows: Rows, read: Callable[[int], None]) -> None:
        self._rows = rows
        self._read = read
        self.count = 0
        self.hash = blake2b(digest_size=16)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for row in self._rows:
            self.count += 1
            self.hash.update(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            if self.count % REPORT_ROWS == 0:
                self._read(self.count)
            yield row


def _settled_stamp(index: Index, day: str) -> Any:
    """What the files of a day look like, as JSON has it; None if they changed a moment ago."""
    stamp = index.day_stamp(day)
    newest = max((one.mtime_ns for one in stamp if one), default=None)
    return None if newest is None or time.time() - newest / 1e9 < SETTLED else [one and list(one) for one in stamp]


def _read_note(note: Path, target: Path) -> dict[str, Any]:
    """What is noted of a file; empty if there is no note, or if the file is not the one that was noted."""
    looks = try_file_stat(target)
    try:
        found = orjson.loads(note.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or looks is None or found.get("file") != [looks.size, looks.mtime_ns]:
        return {}
    return found


def _plain(value: Any) -> Any:
    """A value as it is once it has been JSON."""
    return orjson.loads(orjson.dumps(value))
