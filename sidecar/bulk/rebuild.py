"""The index rebuilt from the logs and the archive alone: the recovery for everything.

Rows come out of `ingest.reader`, as they do live; only the daily files are loaded differently (`workers.py`). Each
archive file says what it contains. Where two contain the same bytes of a log, which a kill can leave behind, the longer
one counts: a log is archived again from the same offset only if it has grown since.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections import defaultdict
from collections.abc import Container
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes
from uuid import uuid4

from sidecar.config.settings import Settings
from sidecar.errors import ArchiveDamaged, ArchiveMissing, SidecarError, SourceError
from sidecar.fs import resolve_under, sync_file, sync_folder, to_os, to_text
from sidecar.indexer.catalog_writer import CatalogWriter
from sidecar.indexer.day_files import signatures
from sidecar.indexer.saved_source import SavedSource
from sidecar.logs.archive_file import Archive, ArchivedLog, is_of, owner_of, still_archived
from sidecar.logs.scanner import Scan
from sidecar.records import Extent, Report, Reporter, archived_size
from sidecar.store import layout
from sidecar.times import YEAR_10000

from .load import load
from .messages import MergedDay, ReadChunk, ReadTask, UnreadableSource
from .workers import LogRewritten

SOURCES_PER_SAVE = 1_000
"""Sources whose states are written to the catalog in one transaction."""
MAX_REBUILD_ATTEMPTS = 5
"""Rebuilds begun before a log that is rewritten meanwhile, each time, is an error."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild made."""

    entries: int
    sources: int
    bytes: int
    seconds: float
    unreadable: tuple[str, ...] = ()
    """Files that could not be read, and why."""


def reindex(
    settings: Settings,
    workers: int = 0,
    report: Reporter = lambda _: None,
    first_mtimes: dict[str, float] | None = None,
    *,
    strict: bool = True,
) -> Rebuilt:
    """Build a new index beside the old and put it in its place; the caller holds the root's lock.

    Queries are served from the old one until the new one is whole. `workers` is the number of processes that read
    (0: as many as there are processors); `first_mtimes` the notes to take over, by default those of the old index.
    Raises SidecarError where a folder cannot be read; not `strict`, it leaves that to whoever scans next.
    """
    folder = settings.index_folder
    if first_mtimes is None:
        first_mtimes = first_seen_times(folder)
    target = folder / layout.REBUILD
    for attempt in range(1, MAX_REBUILD_ATTEMPTS + 1):
        layout.finish_swap(folder)
        try:
            if target.exists():
                shutil.rmtree(target)  # what could not be thrown away before must not be taken for new
            todo = read_tasks(settings, first_mtimes, strict)
            rebuilt = build_index(settings, target, todo, workers or os.cpu_count() or 1, report)
        except LogRewritten:
            if attempt == MAX_REBUILD_ATTEMPTS:
                raise
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)  # it may be what has filled the disk
            raise
        else:
            break
    layout.commit_swap(folder, [path.name for path in (target / layout.DAILY_NAME).glob("*.db")])
    return rebuilt


def first_seen_times(folder: Path) -> dict[str, float]:
    """The first-seen time of each source in the old index in `folder`, as far as it can be read: a rebuild takes them
    over, because nothing else in the logs tells them."""
    rows = _query_old(folder, "SELECT path, first_mtime FROM source")
    return {path: mtime for path, mtime in rows if isinstance(path, str) and _is_mtime(mtime)}


def read_tasks(settings: Settings, first_mtimes: dict[str, float], strict: bool = True) -> list[ReadTask]:
    """Every source that a scan finds; where `strict`, SidecarError for a folder that cannot be read: it may be full."""
    scan = Scan(settings)
    found = {one.path: one.status for one in scan}
    if scan.failed and strict:
        folder, why = next(iter(scan.failed.items()))
        raise SidecarError(f"cannot read {settings.root / folder}: {why}", hint="make it readable, then try again")
    sizes = {path: status.st_size for path, status in found.items()}
    archived = archived_extents(settings, sizes, strict=strict)
    todo = []
    for id_, path in enumerate(sorted(found.keys() | archived.keys()), 1):
        parts, first_mtime = archived.get(path, ((), None))
        size = sizes.get(path, 0) + archived_size(parts)
        mtime = found[path].st_mtime if path in found else first_mtime or 0.0
        todo.append(ReadTask(id_, path, size, first_mtimes.get(path, first_mtime), None, parts, path in found, mtime))
    return todo


def build_index(settings: Settings, target: Path, todo: list[ReadTask], workers: int, report: Reporter) -> Rebuilt:
    """Make an index of some sources in a folder of its own; it is durable when this returns."""
    began = time.perf_counter()
    total = sum(task.size if task.limit is None else task.limit for task in todo)
    entries = done = 0
    unreadable: list[str] = []
    waiting: list[SavedSource] = []
    days: dict[int, tuple[float, float, int]] = {}
    with (
        closing(CatalogWriter(target / layout.CATALOG_NAME, bulk=True)) as catalog,
        closing(load(settings, todo, target / layout.DAILY_NAME, workers)) as results,
    ):
        for result in results:
            match result:
                case ReadChunk():
                    entries += result.entries
                    done += result.bytes
                    report(Report("rebuilding", done, total, entries))
                case SavedSource():
                    waiting.append(result)
                    if len(waiting) >= SOURCES_PER_SAVE:
                        catalog.save(waiting, ())
                        waiting = []
                case UnreadableSource(why):
                    unreadable.append(why)
                case MergedDay(day, summary):
                    days[day] = summary
                    report(Report("rebuilding", done, total, entries))
        catalog.save(waiting, sorted(days.items()))
        catalog.note("files", signatures(target / layout.DAILY_NAME))
        if any(task.archived for task in todo):
            catalog.note("archive", to_text(os.fspath(settings.archive)))
        catalog.note("config", settings.fingerprint)
        catalog.note("build", uuid4().hex)
    for folder in (target, target / layout.DAILY_NAME):
        sync_folder(folder)
    sync_file(target / layout.CATALOG_NAME)
    report(Report("rebuilding", total, total, entries))
    return Rebuilt(entries, len(todo) - len(unreadable), done, time.perf_counter() - began, tuple(unreadable))


# ---- what lies in the archive

ArchivedExtents = dict[str, tuple[tuple[Extent, ...], float | None]]
"""From a log to what of it is archived, and the time when its file was first seen."""


def archived_extents(settings: Settings, files: Container[str], *, strict: bool) -> ArchivedExtents:
    """What of each source lies in the archive, beside its file where `files` has it.

    Raises ArchiveMissing where the index says that there is an archive, and there is none: it may not be mounted, and
    what is in it must not be taken for gone. An archive file that is gone or damaged has what the index says of it;
    where there is no index either, `strict` raises ArchiveDamaged.
    """
    old = _OldCatalog(settings.index_folder)
    named = owner_of(settings.archive)
    if named is None or not (is_of(settings.archive, settings.root) or not named.exists()):
        if old.files:
            raise ArchiveMissing(
                f"{settings.archive} is not the archive of {settings.root}, whose index has logs that were archived",
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
    return {
        path: (_beside(settings, path, parts) if path in files else parts, first_mtime)
        for path, members in found.items()
        if settings.source_for(to_os(path)) is not None
        for parts, first_mtime in (_in_order(members),)
    }


def _in_order(members: list[tuple[ArchivedLog, str]]) -> tuple[tuple[Extent, ...], float | None]:
    """The parts of a log, without a gap, the longest of those that begin at the same byte."""
    parts: list[Extent] = []
    offset = 0
    while True:
        here = [(member.size, file, member) for member, file in members if member.start == offset and member.size]
        if not here:
            return tuple(parts), members[0][0].first_mtime
        size, file, member = max(here, key=lambda one: one[:2])
        parts.append(Extent(file, member.at, size, member.lines, member.sign))
        offset += size


def _beside(settings: Settings, path: str, parts: tuple[Extent, ...]) -> tuple[Extent, ...]:
    with suppress(OSError, SourceError):
        return still_archived(resolve_under(settings.root, path), parts)
    return parts


class _OldCatalog:
    """What the catalog of the old index says of the archive, or the quarantined one if that cannot be read; nothing if
    neither can."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files = {name for (name,) in _query_old(folder, "SELECT name FROM archive_file") if isinstance(name, str)}
        """The archive files that the index points into."""

    @cached_property
    def members(self) -> list[tuple[ArchivedLog, str]]:
        """What the archive files hold. Impossible rows are left out: a rebuild is what puts them right."""
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


def _query_old(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the old catalog, of whatever version it is; or of the quarantined one, whose rebuild did not come to its
    end; or none."""
    for path in (layout.catalog_path(folder), *(folder / layout.QUARANTINE).glob(f"*{layout.CATALOG_NAME}")):
        uri = f"file:{quote_from_bytes(os.fsencode(path))}?mode=ro"
        with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True)) as catalog:
            return catalog.execute(sql).fetchall()
    return []
