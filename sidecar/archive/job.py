"""`sidecar archive`: compress old logs, and keep everything in them findable.

For each archive, in this order, so that a kill at any point leaves the log, or the archive, or both:

1. The archive is written under another name, made durable, compared with its logs byte for byte, and renamed
   (`pack.py`).
2. The index owner (`service/requests.py`) records durably where the bytes are, for each log that has not changed since.
3. Each of these logs is deleted, if it has not changed since and nobody has it open for writing (`remove.py`).

Killed after 1, the next run finds the archive under its name and continues from there. Killed after 2, it finds logs
that are recorded as archived and still exist, compares them with the archive once more, and deletes them. Until then
they are read as before.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import ConfigError, IndexMissing, SidecarError, SourceError
from sidecar.fs import FileStat, resolve_under
from sidecar.guarded import folder_inside
from sidecar.indexer.index_writer import IndexWriter
from sidecar.logs.archive_file import Archive, begins_with
from sidecar.logs.archive_format import ArchivedLog
from sidecar.query.catalog_reader import open_catalog
from sidecar.records import Extent, Report, Reporter
from sidecar.service import requests
from sidecar.service.lock import root_locked
from sidecar.service.requests import IndexOwner, index_owner

from . import compact, remove
from .folder import check_archive_folder, claim_archive_folder, delete_archive, delete_unfinished, make_durable
from .pack import PackedArchive, estimate_size, pack_archive
from .plan import (
    Candidate,
    ExpiredArchive,
    SkippedLog,
    Target,
    expired_archives,
    make_plan,
    total_bytes,
)

DEFAULT_AGE = 86400.0
"""For how many seconds a log must not have changed, by default: a day, as in the reference."""
WRITER_GRACE = 0.001
"""How many seconds a writer without a lock has to open a session after it has looked up the name (`remove.remove_log`).
"""
ARCHIVES_PER_BATCH = 64
LOG_BYTES_PER_BATCH = 64 << 20
"""Archives, or bytes of log, that are recorded in the index at once."""
ARCHIVE_LOCK_FILE = "archive.lock"


class ArchivedFile(NamedTuple):
    """An archive that was made, or in a dry run would be."""

    file: str
    """Relative to the archive folder."""
    logs: int
    log_bytes: int
    archive_bytes: int
    """Its size on disk; in a dry run an estimate."""


class CompactedDay(NamedTuple):
    """A day whose daily file was replaced by a compact copy."""

    day: str
    """`YYYY-MM-DD`."""
    before: int
    """Bytes of the daily file."""
    after: int
    """Bytes of the copy; in a dry run the same as `before`."""


@dataclass(slots=True)
class ArchiveResult:
    """What was done, or would be done in a dry run. The names of the fields are the keys of `--json`."""

    dry_run: bool
    archived: list[ArchivedFile] = field(default_factory=list)
    kept: list[SkippedLog] = field(default_factory=list)
    """Logs that stay where they are, and why; sorted by path."""
    cleared: int = 0
    """The number of logs deleted that an earlier run had archived."""
    deleted: list[ExpiredArchive] = field(default_factory=list)
    """Expired archives that were deleted, with the entries of their logs."""
    compacted: list[CompactedDay] = field(default_factory=list)
    days_kept: list[SkippedLog] = field(default_factory=list)
    """Days whose daily file could not be compacted now, and why."""
    seconds: float = 0.0


class ArchiveOptions(NamedTuple):
    """What to archive, and what to delete."""

    age: float = DEFAULT_AGE
    """For how many seconds a log must not have changed."""
    keep: float | None = None
    """How many seconds after the end of its day an archive is deleted; None: never."""
    keep_size: int | None = None
    """Above this total size of all archives, in bytes, the oldest are deleted; None: no limit."""
    copy: bool = False
    """Leave the logs where they are."""


def archive(
    settings: Settings,
    options: ArchiveOptions = ArchiveOptions(),  # noqa: B008 -- a constant
    report: Reporter = lambda _: None,
    agreed: Callable[[list[ExpiredArchive]], bool] = lambda _: True,
) -> ArchiveResult:
    """Archive old logs, delete expired archives, and compact the daily files of past days.

    `agreed` is called with the archives that are about to be deleted, if there are any; if it returns false, they stay.

    Raises ConfigError if the logs belong to another tool or the archive folder is another root's, RootLocked if a job
    other than `sidecar run` holds the root or another `sidecar archive` runs, IndexMissing, and SidecarError if an
    archive cannot be written. What was archived before the error is complete.
    """
    began = time.perf_counter()
    _check_owner(settings, options)
    settings.check_root()
    # Raises IndexMissing before anything is created.
    with closing(open_catalog(settings.index_folder)):
        pass
    with (
        root_locked(settings, "archive", ARCHIVE_LOCK_FILE),
        index_owner(settings) as owner,
        Archive(settings.archive) as folder,
    ):
        claim_archive_folder(settings)
        requests.delete_stale_requests(settings.index_folder)
        compact.delete_stale_copies(settings.index_folder)
        remove.delete_leftovers(settings.index_folder)
        delete_unfinished(folder)
        result = _Job(settings, options, owner, folder, report).run(agreed)
        remove.delete_leftovers(settings.index_folder)
    result.seconds = time.perf_counter() - began
    return result


def preview(settings: Settings, options: ArchiveOptions = ArchiveOptions()) -> ArchiveResult:  # noqa: B008 -- a constant
    """What `archive` would do, as far as that is known beforehand. Writes nothing and takes no lock. Raises ConfigError
    and IndexMissing, as `archive` does."""
    began = time.perf_counter()
    _check_owner(settings, options)
    now = time.time()
    result = ArchiveResult(dry_run=True)
    check_archive_folder(settings)
    with closing(open_catalog(settings.index_folder)) as catalog, Archive(settings.archive) as folder:
        plan = make_plan(settings, catalog, options.age, now)
        result.archived = [
            ArchivedFile(target.file(), len(target.logs), target.bytes, estimate_size(settings, target))
            for target in plan.targets
        ]
        result.kept = plan.skipped
        result.cleared = 0 if options.copy else len(plan.leftovers)
        result.deleted = expired_archives(catalog, folder, now, options.keep, options.keep_size)
        for path in compact.days_to_compact(settings.index_folder, catalog, options.age, now):
            size = path.stat().st_size
            result.compacted.append(CompactedDay(path.stem, size, size))
    result.seconds = time.perf_counter() - began
    return result


def _check_owner(settings: Settings, options: ArchiveOptions) -> None:
    """Raise ConfigError if the logs belong to another tool and would be deleted, or if copies are to expire: their
    entries would be deleted too, although the logs still exist."""
    if settings.of_tool and not options.copy:
        raise ConfigError(
            f"the logs of the preset {settings.preset} belong to another tool, and archiving deletes logs",
            hint="add --copy to archive copies, and leave the logs to that tool",
        )
    if options.copy and (options.keep is not None or options.keep_size is not None):
        raise ConfigError("--copy deletes nothing, so it cannot be combined with --keep or --keep-size")


# ---- the work


class _Job:
    """One run of `archive`, which holds the lock."""

    def __init__(
        self, settings: Settings, options: ArchiveOptions, owner: IndexOwner, folder: Archive, report: Reporter
    ) -> None:
        self._settings = settings
        self._options = options
        self._owner = owner
        self._folder = folder
        self._report = report
        self._result = ArchiveResult(dry_run=False)
        self._bytes = self._total = self._entries = 0

    def run(self, agreed: Callable[[list[ExpiredArchive]], bool]) -> ArchiveResult:
        now = time.time()
        with closing(open_catalog(self._settings.index_folder)) as catalog:
            plan = make_plan(self._settings, catalog, self._options.age, now)
        self._result.kept = plan.skipped
        self._total = total_bytes(plan.targets)
        if not self._options.copy:
            self._delete_leftovers(plan.leftovers)
        for targets in _batches(plan.targets):
            self._archive(targets)
        self._delete_superseded()
        with closing(open_catalog(self._settings.index_folder)) as catalog:
            expired = expired_archives(catalog, self._folder, now, self._options.keep, self._options.keep_size)
        if expired and agreed(expired):
            self._delete_expired(expired)
        self._compact(now)
        self._result.kept.sort()
        return self._result

    def _skip(self, path: str, why: str) -> None:
        self._result.kept.append(SkippedLog(path, why))

    def _delete_leftovers(self, leftovers: list[Candidate]) -> None:
        """Delete logs that an earlier run has archived, unless the archive holds other bytes."""
        for log in leftovers:
            extent = log.extents[-1]
            try:
                is_same = begins_with(resolve_under(self._settings.root, log.path), extent)
                if not is_same or self._folder.sign(extent.file, extent.at, extent.size) != extent.sign:
                    self._skip(log.path, "its archive contains other bytes")
                    continue
            except (OSError, SourceError) as error:
                self._skip(log.path, f"its archive cannot be read: {error}")
                continue
            self._result.cleared += self._delete_logs([(log.path, log.stat)], is_session=log.layout == "session")

    def _archive(self, targets: list[Target]) -> None:
        """Make some archives, one by one, and record them together, so that they share the syncs of the index."""
        made: list[tuple[Target, PackedArchive]] = []
        failed: SidecarError | None = None
        for target in targets:
            try:
                packed = pack_archive(self._folder, self._settings.root, target, self._written)
            except OSError as error:
                failed = SidecarError(
                    f"{self._folder.folder / target.file()}: {error.strerror or error}",
                    hint="make room, or check the permissions there, and run it again: it continues where it stopped",
                )
                break
            self._result.kept += packed.left_out
            self._entries += sum(log.entries for log in target.logs)
            if packed.moves:
                made.append((target, packed))
        if made:
            self._record(made)
        if failed is not None:
            raise failed

    def _written(self, count: int) -> None:
        self._bytes += count
        self._report(Report("archiving", self._bytes, max(self._bytes, self._total), self._entries))

    def _record(self, made: list[tuple[Target, PackedArchive]]) -> None:
        """Have archives recorded in the index, then delete their logs."""
        make_durable(self._folder, [packed.file for _, packed in made])
        moves = [move for _, packed in made for move in packed.moves]
        refused = self._owner.archive(moves, os.fspath(self._folder.folder))
        for path, why in refused.items():
            self._skip(path, why)
        for target, packed in made:
            accepted = [move for move in packed.moves if move.path not in refused]
            # Nothing points into this archive.
            if not accepted:
                delete_archive(self._folder, packed.file)
                continue
            size = sum(move.part.size for move in accepted)
            self._result.archived.append(ArchivedFile(packed.file, len(accepted), size, packed.size))
            get_logger(__name__).info("%s: %d logs archived, %d bytes", packed.file, len(accepted), size)
            if not self._options.copy:
                logs = [(move.path, FileStat(*move.looks)) for move in accepted]
                self._delete_logs(logs, is_session=not target.is_tar)

    def _delete_logs(self, logs: Iterable[tuple[str, FileStat]], *, is_session: bool) -> int:
        """Delete archived logs, and the folders of a day that are empty then. Returns how many logs were deleted."""
        count = 0
        folders: set[Path] = set()
        for path, stat in logs:
            try:
                grace = WRITER_GRACE if is_session else 0.0
                folder = remove.remove_log(self._settings.root, path, stat, self._settings.index_folder, grace=grace)
            except FileNotFoundError:
                folder = resolve_under(self._settings.root, path).parent
            except (OSError, SourceError) as error:
                self._skip(path, f"archived, but not deleted: {getattr(error, 'strerror', None) or error}")
                continue
            count += 1
            folders.add(folder)
            if isinstance(self._owner, IndexWriter):
                self._owner.vanished(path)
        if not is_session:
            for folder in folders:
                # Fails unless the folder is empty.
                with suppress(OSError, SourceError), folder_inside(self._settings.root, folder.parent) as parent:
                    os.rmdir(folder.name, dir_fd=parent)
        return count

    def _delete_superseded(self) -> None:
        """Delete archives that the index does not point into, if all their bytes are in others that it points into. A
        kill leaves such archives, and so does a log that was put back and has grown since."""
        with closing(open_catalog(self._settings.index_folder)) as catalog:
            archived = catalog.archived()
        used = {extent.file for extents in archived.values() for extent in extents}
        for file in self._folder.files():
            if file not in used:
                with suppress(SidecarError, OSError):
                    if all(_is_elsewhere(self._folder, member, archived) for member in self._folder.members(file)):
                        delete_archive(self._folder, file)

    def _delete_expired(self, expired: list[ExpiredArchive]) -> None:
        """Delete expired archives, unless the index owner refuses: first the rows of their logs, then the files."""
        refused = self._owner.drop([path for one in expired for path in one.logs])
        self._folder.close()
        for one in expired:
            if not any(path in refused for path in one.logs):
                delete_archive(self._folder, one.file)
                self._result.deleted.append(one)

    def _compact(self, now: float) -> None:
        folder = self._settings.index_folder
        with closing(open_catalog(folder)) as catalog:
            paths = compact.days_to_compact(folder, catalog, self._options.age, now)
        for path in paths:
            try:
                with closing(open_catalog(folder)) as catalog:
                    checkpoint = int(catalog.fact("checkpoint") or 0)
                before = path.stat().st_size
                copy = compact.compact_copy(folder, path, checkpoint)
            except (OSError, sqlite3.Error, IndexMissing) as error:
                # The next run tries again.
                self._result.days_kept.append(SkippedLog(path.stem, str(error)))
                continue
            refused = {path.stem: "it is being written"} if copy is None else self._owner.compact([copy])
            if refused:
                self._result.days_kept += [SkippedLog(day, why) for day, why in refused.items()]
                continue
            self._result.compacted.append(CompactedDay(path.stem, before, path.stat().st_size))
        compact.delete_stale_copies(folder)


def _batches(targets: list[Target]) -> Iterator[list[Target]]:
    """The targets in their order, a few at a time: a kill costs the work of one batch."""
    batch: list[Target] = []
    for target in targets:
        batch.append(target)
        if len(batch) == ARCHIVES_PER_BATCH or total_bytes(batch) > LOG_BYTES_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _is_elsewhere(folder: Archive, member: ArchivedLog, archived: dict[str, tuple[Extent, ...]]) -> bool:
    """Whether an archive that the index points into contains the bytes of a member of another one."""
    start = 0
    for extent in archived.get(member.path, ()):
        if start == member.start and extent.size >= member.size:
            return folder.sign(extent.file, extent.at, member.size) == member.sign
        start += extent.size
    return False
