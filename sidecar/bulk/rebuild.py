"""Rebuild the index from the logs and the archive alone, which is the way to recover from anything.

Rows come from `ingest.reader`, as they do live; only the daily files are written differently (`load.py`). Each archive
file lists the logs that it contains. If two contain the same bytes of a log, which can happen after a kill, the longer
one counts: a log is archived again from the same offset only if it has grown since.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Container, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from sidecar.config.settings import Settings
from sidecar.errors import ArchiveDamaged, ArchiveMissing, IndexDamaged, SidecarError, SourceError
from sidecar.fs import FileStat, resolve_under, to_os, to_text
from sidecar.guarded import GuardedFolder
from sidecar.indexer.catalog_writer import CatalogWriter
from sidecar.indexer.day_files import mark_answered_across, signatures
from sidecar.indexer.saved_source import SavedSource
from sidecar.logs.archive_file import Archive, is_of, owner_of, still_archived
from sidecar.logs.archive_format import ArchivedLog
from sidecar.logs.parts import without_copy
from sidecar.logs.scanner import PartFile, Scan
from sidecar.records import DROP_REASONS, Dropped, Extent, Report, Reporter, archived_size
from sidecar.store import layout
from sidecar.store.bounded import StepCounter
from sidecar.store.database_files import check_to_read, uri
from sidecar.store.schema_check import OBJECTS, are_tables
from sidecar.times import YEAR_10000

from .load import load
from .messages import MergedDay, PartTask, ReadChunk, ReadTask, UnreadableSource
from .workers import LogRewritten

SOURCES_PER_SAVE = 1_000
"""How many sources are saved to the catalog in one transaction."""
MAX_REBUILD_ATTEMPTS = 5
"""How many attempts are made if a log is rewritten during each of them."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The result of a rebuild."""

    entries: int
    sources: int
    """The number of sources that were read to their end."""
    bytes: int
    """The number of bytes of log that were read."""
    seconds: float
    unreadable: tuple[str, ...] = ()
    """For each source that could not be read to its end, a text with its path and the reason."""


def reindex(
    settings: Settings,
    workers: int = 0,
    report: Reporter = lambda _: None,
    first_mtimes: dict[str, float] | None = None,
    *,
    strict: bool = True,
) -> Rebuilt:
    """Build a new index beside the old one, and swap it in. The caller holds the root's lock.

    Queries are served from the old index until the new one is complete. `workers` is the number of processes that read
    (0: one per processor), `first_mtimes` are the first-seen times to keep (default: those of the old index).

    Raises LogRewritten if a log was rewritten during each of MAX_REBUILD_ATTEMPTS attempts, ArchiveMissing if the
    archive that the old index points into is not there, SidecarError if a worker fails or dies, and OSError or
    DATABASE_ERRORS if the index cannot be written. With `strict`, raises SidecarError for a folder and ArchiveDamaged
    for an archive file that cannot be read; without, their logs are missing from the index until a scan finds them.
    """
    folder = settings.index_folder
    if first_mtimes is None:
        first_mtimes = first_seen_times(folder)
    with GuardedFolder.open_own(folder) as index:
        for attempt in range(1, MAX_REBUILD_ATTEMPTS + 1):
            layout.finish_swap(folder)
            try:
                # Files of an earlier attempt must not become part of this index.
                index.delete(layout.REBUILD)
                tasks = read_tasks(settings, first_mtimes, strict)
                with index.folder(layout.REBUILD, create=True) as target:
                    rebuilt = build_index(settings, target, tasks, workers or os.cpu_count() or 1, report)
                    _take_over_dropped(folder, target)
                    with target.folder(layout.DAILY_NAME) as days:
                        names = [name for name in days.names() if name.endswith(".db")]
            except LogRewritten:
                if attempt == MAX_REBUILD_ATTEMPTS:
                    raise
            except BaseException:
                # Perhaps it has filled the disk.
                index.delete_all(layout.REBUILD)
                raise
            else:
                break
    layout.commit_swap(folder, names)
    return rebuilt


def first_seen_times(folder: Path) -> dict[str, float]:
    """For each source in the old index in `folder`, the modification time that its file had when it was first seen, in
    seconds since 1970. A rebuild keeps them, because they cannot be derived again (`docs/derivation.md`, section 5).

    Empty if neither the old catalog nor a quarantined one can be read.
    """
    rows = _query_old(folder, "SELECT path, first_mtime FROM source")
    return {path: mtime for path, mtime in rows if isinstance(path, str) and _is_mtime(mtime)}


def _take_over_dropped(folder: Path, target: GuardedFolder) -> None:
    """Copy the numbers of dropped entries from the old catalog, because the logs no longer tell them."""
    rows = [Dropped(*row) for row in _query_old(folder, "SELECT path, reason, entries FROM dropped")]
    if sound := [row for row in rows if row.reason in DROP_REASONS and isinstance(row.entries, int)]:
        with closing(CatalogWriter(target, bulk=True)) as catalog:
            catalog.note_dropped(row for row in sound if isinstance(row.path, str))
        target.sync_file(layout.CATALOG_NAME)


def read_tasks(settings: Settings, first_mtimes: dict[str, float], strict: bool = True) -> list[ReadTask]:
    """A task for each source that has a file or archived bytes. Raises the errors that `reindex` raises before it reads
    any logs."""
    scan = Scan(settings)
    files = {one.path: (*one.parts, PartFile(one.path, one.status)) for one in scan}
    found = {path: its[-1].status for path, its in files.items()}
    if scan.failed and strict:
        folder, why = next(iter(scan.failed.items()))
        raise SidecarError(
            f"cannot read {settings.root / folder}: {why}",
            hint="it may contain logs: make it readable, then try again",
        )
    sizes = {path: status.st_size for path, status in found.items()}
    archived = archived_extents(settings, sizes, strict=strict)
    tasks = []
    for id_, path in enumerate(sorted(found.keys() | archived.keys()), 1):
        extents, first_mtime = archived.get(path, ((), None))
        size = sizes.get(path, 0) + archived_size(extents)
        mtime = found[path].st_mtime if path in found else first_mtime or 0.0
        first_mtime = first_mtimes.get(path, first_mtime)
        parts: list[PartTask] = []
        if len(files.get(path, ())) > 1 and not extents:
            parts = [
                PartTask(file.path, *FileStat.of(file.status).identity)
                for file in without_copy(settings.root, list(files[path]))
            ]
            size = sum(file.status.st_size for file in files[path])
        task = ReadTask(id_, path, size, first_mtime, None, extents, path in found, mtime, tuple(parts))
        tasks.append(task)
    return tasks


def build_index(
    settings: Settings,
    target: GuardedFolder,
    tasks: list[ReadTask],
    workers: int,
    report: Reporter,
    loose_elsewhere: Iterable[str] = (),
) -> Rebuilt:
    """Build an index of the given sources in the empty folder `target`, and make it durable.

    `loose_elsewhere` are the correlations of loose answers (`indexer.across`) in logs that can no longer be read.

    Raises LogRewritten, SidecarError if a worker fails or dies, and OSError or DATABASE_ERRORS.
    """
    began = time.perf_counter()
    total = sum(task.size if task.limit is None else task.limit for task in tasks)
    entries = done = 0
    unreadable: list[str] = []
    unsaved: list[SavedSource] = []
    days: dict[int, tuple[float, float, int]] = {}
    with (
        target.folder(layout.DAILY_NAME, create=True) as daily,
        closing(CatalogWriter(target, bulk=True)) as catalog,
        closing(load(settings, tasks, target, daily, workers)) as results,
    ):
        for result in results:
            match result:
                case ReadChunk():
                    entries += result.entries
                    done += result.bytes
                    report(Report("rebuilding", done, total, entries))
                case SavedSource():
                    unsaved.append(result)
                    if len(unsaved) >= SOURCES_PER_SAVE:
                        catalog.save(unsaved, ())
                        unsaved = []
                case UnreadableSource(why):
                    unreadable.append(why)
                case MergedDay(day, summary):
                    days[day] = summary
                    report(Report("rebuilding", done, total, entries))
        catalog.save(unsaved, sorted(days.items()))
        catalog.across.add_elsewhere(loose_elsewhere)
        mark_answered_across(daily, catalog.across.all_marks())
        catalog.note("files", signatures(daily))
        if any(task.archived for task in tasks):
            catalog.note("archive", to_text(os.fspath(settings.archive)))
        catalog.note("config", settings.fingerprint)
        catalog.note("text", settings.text_note)
        catalog.note("build", uuid4().hex)
        daily.sync()
    target.sync()
    target.sync_file(layout.CATALOG_NAME)
    report(Report("rebuilding", total, total, entries))
    return Rebuilt(entries, len(tasks) - len(unreadable), done, time.perf_counter() - began, tuple(unreadable))


# ---- what is archived

ArchivedExtents = dict[str, tuple[tuple[Extent, ...], float | None]]
"""For each log, its archived extents, and the modification time that its file had when it was first seen."""


def archived_extents(settings: Settings, files: Container[str], *, strict: bool) -> ArchivedExtents:
    """The archived extents of each source. For a path in `files`, those that count beside its log file.

    They are read from the archive files. If an archive file is missing or damaged, the old index is consulted, so that
    the entries of its logs can still be found. Raises ArchiveDamaged if that does not know the file either, unless
    `strict` is false; and ArchiveMissing if the old index points into an archive but there is none, because it may just
    not be mounted, and its logs must not be taken for deleted.
    """
    old = _OldCatalog(settings.index_folder)
    named = owner_of(settings.archive)
    if named is None or not (is_of(settings.archive, settings.root) or not named.exists()):
        if old.files:
            raise ArchiveMissing(
                f"{settings.archive} is not the archive of {settings.root}, whose index points into one",
                hint="mount it, or name it in config.yaml (`archive`); to give up what was archived, delete the index",
            )
        if named is not None or not settings.archive.is_dir():
            return {}
    found: defaultdict[str, list[tuple[ArchivedLog, str]]] = defaultdict(list)
    sound = set()
    with Archive(settings.archive) as archive:
        for file in archive.files():
            try:
                members = archive.members(file)
            except (ArchiveDamaged, ArchiveMissing):
                if strict and not any(file == known for _, known in old.members):
                    raise
                continue
            sound.add(file)
            for member in members:
                found[member.path].append((member, file))
    if old.files - sound:
        for member, file in old.members:
            if file not in sound:
                found[member.path].append((member, file))
    extents_of = {}
    for path, of_log in found.items():
        if settings.source_for(to_os(path)) is not None:
            extents = _consecutive(of_log)
            if path in files:
                # An error will be reported when the file is read.
                with suppress(OSError, SourceError):
                    extents = still_archived(resolve_under(settings.root, path), extents)
            extents_of[path] = extents, of_log[0][0].first_mtime
    return extents_of


def _consecutive(members: list[tuple[ArchivedLog, str]]) -> tuple[Extent, ...]:
    """The extents of a log from its first byte on, without gaps; the longest of those that begin at the same byte."""
    extents: list[Extent] = []
    offset = 0
    while True:
        here = [(member.size, file, member) for member, file in members if member.start == offset and member.size]
        if not here:
            return tuple(extents)
        size, file, member = max(here, key=lambda one: one[:2])
        extents.append(Extent(file, member.at, size, member.lines, member.sign))
        offset += size


class _OldCatalog:
    """What the old index's catalog says about the archive."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files = {name for (name,) in _query_old(folder, "SELECT name FROM archive_file") if isinstance(name, str)}
        """The archive files that the index points into."""

    @cached_property
    def members(self) -> list[tuple[ArchivedLog, str]]:
        """The archived logs, each with its archive file. Impossible rows are left out: the rebuild replaces them."""
        sql = (
            "SELECT s.path, a.start, a.at, a.size, a.lines, a.sign, s.first_mtime, f.name FROM archived a"
            " JOIN archive_file f ON f.id = a.file JOIN source s ON s.id = a.source"
        )
        rows = _query_old(self._folder, sql)
        return [(ArchivedLog(*values), file) for *values, file in rows if file in self.files and _is_possible(*values)]


def _is_possible(path: Any, start: Any, at: Any, size: Any, lines: Any, sign: Any, first_mtime: Any) -> bool:
    return (
        isinstance(path, str)
        and all(isinstance(number, int) and number >= 0 for number in (start, at, size, lines))
        and isinstance(sign, int)
        and (first_mtime is None or _is_mtime(first_mtime))
    )


def _is_mtime(value: Any) -> bool:
    return isinstance(value, float) and 0.0 <= value < YEAR_10000


_OLD_TABLES = ("source", "archived", "archive_file")
"""The tables of an old catalog that are queried."""


def _query_old(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the old catalog, which may be of any version. If it cannot be read, those of a quarantined catalog, which
    exists if an earlier rebuild did not finish; else none."""
    for path in (layout.catalog_path(folder), *layout.quarantined_catalogs(folder)):
        with suppress(sqlite3.Error, IndexDamaged):
            check_to_read(path)
            with closing(sqlite3.connect(uri(path, "mode=ro"), uri=True)) as catalog:
                StepCounter(path).bind(catalog)
                if are_tables(catalog.execute(OBJECTS), _OLD_TABLES):
                    return catalog.execute(sql).fetchall()
    return []
