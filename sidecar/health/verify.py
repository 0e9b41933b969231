"""`sidecar verify`: P1 and P2 (docs/testing.md) on the user's own data.

The index is rebuilt in a temporary folder and compared row by row, and the record behind every entry is read.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from sidecar.bulk.messages import PartTask, ReadTask
from sidecar.bulk.rebuild import build_index
from sidecar.config.settings import Settings
from sidecar.errors import ArchiveDamaged, IndexMissing, SidecarError, SourceChanged, SourceError, UnsafePath
from sidecar.fs import path_under, to_os
from sidecar.guarded import GuardedFolder
from sidecar.logs.archive_file import Archive
from sidecar.logs.record_reader import open_log
from sidecar.query.catalog_reader import open_catalog
from sidecar.query.day_reader import DayReader
from sidecar.records import Extent, Report, Reporter, archived_size
from sidecar.store import layout

MAX_LISTED = 100
"""Differences that are listed one by one."""

MAX_TEXT = 2_000
"""Characters of a difference that are listed: a record may name a million agents."""

MAX_ATTEMPTS = 5
"""Comparisons that are begun, if the index is replaced during each of them."""

_LATER = {12, 15, 19}
"""The columns that a later answer changes: correlation_id, has_response and answered_after."""

_COLUMNS = (
    *("id", "timestamp", "event_type", "session_id", "file_path", "line_number", "byte_offset", "initiating_agent"),
    *("participating_agents", "agent_roles", "pattern_type", "conversation_id", "correlation_id"),
    *("is_completion", "is_request", "has_response", "requests_response", "author", "addressees", "answered_after"),
)
"""The names of the columns of `DayReader.rows`."""

RowValues = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `compare`."""

    entries: int
    """Rows compared."""
    pointers: int
    """Records read and compared with what was indexed."""
    differences: tuple[str, ...]
    """One sentence for each difference, the first MAX_LISTED of them."""
    missing_sources: int
    """Logs whose file is gone: their rows cannot be checked, and do not count as differences."""
    unreadable: tuple[str, ...] = ()
    """Logs that this user may not read, by path. Whether the index is right about them is not known."""

    @property
    def holds(self) -> bool:
        """Whether every log that exists could be checked, and no difference was found."""
        return not self.differences and not self.unreadable


@dataclass(slots=True)
class _Difference:
    path: str
    text: str
    may_be_later: bool
    """The difference is only in columns that a later answer changes."""


class _Found:
    """The differences, as far as they are listed: there may be one in each of a billion rows."""

    def __init__(self) -> None:
        self._certain: list[str] = []
        self._perhaps_later: dict[str, list[str]] = {}
        """By path, of differences that do not count if more of the log has been indexed meanwhile."""

    def add(self, difference: _Difference) -> None:
        """Take note of a difference, of MAX_LISTED at most."""
        listed = self._certain
        if difference.may_be_later:
            listed = self._perhaps_later.setdefault(difference.path, [])
        if len(listed) < MAX_LISTED:
            text = difference.text
            listed.append(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…")

    def listed(self, grown: set[str]) -> tuple[str, ...]:
        """The differences that count, given the logs of which more has been indexed meanwhile."""
        texts = [text for path, its in self._perhaps_later.items() if path not in grown for text in its]
        return tuple([*self._certain, *texts][:MAX_LISTED])


def compare(settings: Settings, report: Reporter = lambda _: None) -> Verification:
    """Compare the index with one rebuilt from the logs, as far as each file had been indexed when this began.

    May run beside a sidecar or a rebuild, and takes no lock: if another index is swapped in meanwhile, it starts over
    with that one. The rebuilt index is in a temporary folder. Raises IndexMissing, IndexDamaged, SchemaMismatch, and
    SidecarError if the index was replaced MAX_ATTEMPTS times.
    """
    folder = settings.index_folder
    for _ in range(MAX_ATTEMPTS):
        before = _build(folder)
        try:
            verified = _verify(settings, folder, report)
        except SidecarError:
            if _build(folder) == before:
                raise
        else:
            if _build(folder) == before or verified.holds:
                return verified
    raise SidecarError(
        "the index was replaced again and again while it was compared", hint="wait until `reindex` has ended"
    )


def _build(folder: Path) -> tuple[str | None, str | None]:
    """The names of the rebuild that produced the index in `folder` and of the last move of rows after a rotation."""
    with closing(open_catalog(folder)) as catalog:
        return catalog.fact("build"), catalog.fact("moved")


def _verify(settings: Settings, folder: Path, report: Reporter) -> Verification:
    with closing(open_catalog(folder)) as catalog:
        offsets = catalog.offsets()
        first_mtimes = catalog.first_mtimes()
        archived = catalog.archived()
        loose = catalog.loose_answers()
        parts = catalog.earlier_parts()
    missing = {
        path
        for path, (offset, there) in offsets.items()
        if offset > archived_size(archived.get(path, ())) and (not there or _is_gone(settings, path))
    }
    missing |= {path for path, its in parts.items() if any(_is_gone(settings, part.path) for part in its)}
    unreadable = {
        path
        for path, (offset, _) in offsets.items()
        if offset > archived_size(archived.get(path, ())) and path not in missing and not _may_read(settings, path)
    }
    not_readable = missing | unreadable
    limits = {
        path: offset for path, (offset, _) in offsets.items() if (offset or path in parts) and path not in not_readable
    }
    limits |= {path: archived_size(archived[path]) for path in not_readable if path in archived}
    todo = []
    for number, (path, limit) in enumerate(sorted(limits.items()), 1):
        if settings.source_for(to_os(path)) is None:
            continue
        extents = archived.get(path, ())
        files = [PartTask(*part) for part in parts.get(path, ())]
        limits |= {part.path: part.offset for part in parts.get(path, ())}
        if files:
            files.append(PartTask(path, 0, 0))
        has_file = bool(files) or limit > archived_size(extents)
        todo.append(
            ReadTask(number, path, limit, first_mtimes.get(path), limit, extents, has_file, 0.0, tuple(files), True)
        )
    with (
        tempfile.TemporaryDirectory(prefix="sidecar-verify-") as temporary,
        GuardedFolder.open_own(Path(temporary)) as target,
    ):
        # The answers in a log whose file is gone still count, because its rows stay.
        elsewhere = [key for path in not_readable for key in loose.get(path, ())]
        rebuilt = build_index(settings, target, todo, os.cpu_count() or 1, report, elsewhere)
        found = _Found()
        for text in rebuilt.unreadable:
            found.add(_Difference("", text, False))
        entries = pointers = 0
        for name in sorted({path.name for path in (*layout.daily_paths(folder), *layout.daily_paths(Path(temporary)))}):
            report(Report("comparing", rebuilt.bytes * entries // max(1, rebuilt.entries), rebuilt.bytes, entries))
            here = _rows(folder, name, limits)
            there = _rows(Path(temporary), name, limits)
            for difference in _compare(here, there):
                if difference is None:
                    entries += 1
                else:
                    found.add(difference)
            pointers += _check_pointers(settings, folder, name, limits, archived, found)
    logs = [{path, *(part.path for part in its)} for path, its in parts.items()]
    differences = found.listed(_grown(settings, folder, limits, logs))
    return Verification(entries, pointers, differences, len(missing), tuple(sorted(unreadable)))


def _is_gone(settings: Settings, path: str) -> bool:
    """Whether the file is gone, though no scan has noticed yet. If the root is gone as well, that is not known."""
    try:
        os.lstat(path_under(settings.root, path))
    except (FileNotFoundError, NotADirectoryError, UnsafePath):
        # UnsafePath: an index may name what no log is called.
        return settings.root.is_dir()
    except OSError:
        # In a folder that cannot be read.
        pass
    return False


def _may_read(settings: Settings, path: str) -> bool:
    return os.access(path_under(settings.root, path), os.R_OK)


def _rows(folder: Path, name: str, limits: dict[str, int]) -> Iterator[RowValues]:
    """A day's rows of the index in `folder`, up to the limit of each file, ordered by path and offset."""
    for day in _days(folder, name):
        for row in day.rows():
            if row[6] < limits.get(row[4], 0):
                yield row


def _compare(here: Iterator[RowValues], there: Iterator[RowValues]) -> Iterator[_Difference | None]:
    """Compare two days side by side. Yields None for each pair of equal rows."""
    ours, theirs = next(here, None), next(there, None)
    while ours is not None or theirs is not None:
        if theirs is None or (ours is not None and (ours[4], ours[6]) < (theirs[4], theirs[6])):
            assert ours is not None
            yield _Difference(ours[4], f"{ours[4]}, byte {ours[6]}: in the index, but not in the log", False)
            ours = next(here, None)
        elif ours is None or (theirs[4], theirs[6]) < (ours[4], ours[6]):
            yield _Difference(theirs[4], f"{theirs[4]}, byte {theirs[6]}: in the log, but not in the index", False)
            theirs = next(there, None)
        else:
            columns = [column for column in range(len(_COLUMNS)) if ours[column] != theirs[column]]
            if columns:
                what = "; ".join(f"{_COLUMNS[at]} is {ours[at]!r}, should be {theirs[at]!r}" for at in columns)
                text = f"{ours[4]}, byte {ours[6]}: {what}"
                yield _Difference(ours[4], text, set(columns) <= _LATER)
            else:
                yield None
            ours, theirs = next(here, None), next(there, None)


def _check_pointers(
    settings: Settings,
    folder: Path,
    name: str,
    limits: dict[str, int],
    archived: dict[str, tuple[Extent, ...]],
    found: _Found,
) -> int:
    """Read the record behind every entry of a day, one file after the other, and add the differences. Returns how many
    records were read."""
    read = 0
    with Archive(settings.archive) as archive:
        for day in _days(folder, name):
            for file, places in groupby(day.places(), key=itemgetter(0)):
                if file not in limits:
                    continue
                try:
                    with open_log(settings.root, file, archive, lambda path: archived.get(path, ())) as log:
                        for _, offset, length, checksum in places:
                            if offset >= limits[file]:
                                break
                            try:
                                log.read(offset, length, checksum)
                            except ArchiveDamaged as error:
                                found.add(_Difference(file, str(error), False))
                            except SourceChanged:
                                text = f"{file}, byte {offset}: the bytes are not those that were indexed"
                                found.add(_Difference(file, text, False))
                            read += 1
                except SourceError as error:
                    found.add(_Difference(file, str(error), False))
                except OSError as error:
                    found.add(_Difference(file, f"{file}: {error.strerror}", False))
    return read


def _grown(settings: Settings, folder: Path, limits: dict[str, int], rotated: list[set[str]]) -> set[str]:
    """The files of which more has been indexed meanwhile, the other files of a rotated log of which one is among them,
    and all files of sources with answers across files if one of these is: requests in them may have been answered."""
    grown = set()
    for day in _days(folder):
        grown |= {file for file, offset in day.furthest().items() if offset >= limits.get(file, 0)}
    for files in rotated:
        if files & grown:
            grown |= files
    across = {file for file in limits if _is_across(settings, file)}
    across |= {file for files in rotated if any(_is_across(settings, one) for one in files) for file in files}
    return grown | across if grown & across else grown


def _is_across(settings: Settings, path: str) -> bool:
    source = settings.source_for(to_os(path))
    return source is not None and source.answers_across_files


def _days(folder: Path, name: str | None = None) -> Iterator[DayReader]:
    """The daily files of an index, or the one of this name, each open until the next is asked for."""
    for path in layout.daily_paths(folder):
        if name in (None, path.name):
            try:
                day = DayReader(path)
            except IndexMissing:
                # A swap has removed it.
                continue
            with closing(day):
                yield day
