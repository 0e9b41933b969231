"""`sidecar archive`: old logs become small, and stay findable.

For each archive file, in this order, so that a kill at any point leaves the log, or the archive, or both:

1. the archive is written under another name, made durable, compared with the logs byte for byte, and renamed
   (`pack.py`);
2. the writer of the index records where the bytes are, durably, if each log is still as it was read
   (`service/requests.py` says who the writer is);
3. each log is deleted, if it is still as it was read and nobody has it open for writing (`remove.py`).

Killed after 1, the next run finds the archive under its name and continues from there; after 2, it finds logs that are
recorded as archived and still there: it compares them once more and deletes them. Until then they are read as before.
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
from sidecar.fs import resolve_under
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
    ArchivePlan,
    ExpiredArchive,
    SkippedLog,
    Target,
    expired_archives,
    make_plan,
    total_bytes,
)

DEFAULT_AGE = 86400.0
"""Seconds for which a log has been unchanged, unless told otherwise: the reference archives what is of yesterday."""
WRITER_GRACE = 0.001
"""Seconds that a writer gets who has found a session's name, to open it."""
ARCHIVES_PER_BATCH = 64
LOG_BYTES_PER_BATCH = 64 << 20
"""Archives, and bytes of log, after which the owner of the index is told."""
ARCHIVE_LOCK_FILE = "archive.lock"


class ArchivedFile(NamedTuple):
    """An archive that was made, or in a dry run that would be."""

    file: str
    logs: int
    log_bytes: int
    archive_bytes: int
    """In a dry run judged by a sample."""


class CompactedDay(NamedTuple):
    """A day whose index was made small."""

    day: str
    before: int
    after: int


@dataclass(slots=True)
class ArchiveResult:
    """What was done, or in a dry run would be."""

    dry_run: bool
    archived: list[ArchivedFile] = field(default_factory=list)
    kept: list[SkippedLog] = field(default_factory=list)
    """Logs that stay, and why."""
    cleared: int = 0
    """Logs deleted that an earlier run had archived."""
    deleted: list[ExpiredArchive] = field(default_factory=list)
    """Archives that were deleted, with the rows of what they held."""
    compacted: list[CompactedDay] = field(default_factory=list)
    days_kept: list[SkippedLog] = field(default_factory=list)
    """Days whose index could not be made small now, and why."""
    seconds: float = 0.0


class ArchiveOptions(NamedTuple):
    """What is wanted."""

    age: float = DEFAULT_AGE
    keep: float | None = None
    """Seconds after which an archive is deleted; None: never."""
    keep_size: int | None = None
    """Bytes of archives beyond which the oldest are deleted; None: however many."""


def archive(
    settings: Settings,
    options: ArchiveOptions = ArchiveOptions(),  # noqa: B008 -- a constant
    report: Reporter = lambda _: None,
    agreed: Callable[[list[ExpiredArchive]], bool] = lambda _: True,
) -> ArchiveResult:
    """Archive what is old. `agreed` is asked before archives are deleted.

    Raises RootLocked where another job holds the root or another `sidecar archive` runs, ConfigError where the archive
    folder is another root's, IndexMissing, and SidecarError where an archive cannot be written.
    """
    began = time.perf_counter()
    job = _Job(settings, options, report)
    if not settings.root.is_dir():
        raise ConfigError(f"the root {settings.root} is not a directory", hint="give --root")
    with closing(open_catalog(settings.index_folder)):
        pass  # IndexMissing, before anything is made
    with (
        root_locked(settings, "archive", ARCHIVE_LOCK_FILE),
        index_owner(settings) as owner_,
        Archive(settings.archive) as folder,
    ):
        claim_archive_folder(settings)
        requests.delete_stale_requests(settings.index_folder)
        compact.delete_stale_copies(settings.index_folder)
        remove.delete_leftovers(settings.index_folder)
        delete_unfinished(folder)
        job.run(owner_, folder, agreed)
        remove.delete_leftovers(settings.index_folder)
    job.done.seconds = time.perf_counter() - began
    return job.done


def preview(settings: Settings, options: ArchiveOptions = ArchiveOptions()) -> ArchiveResult:  # noqa: B008 -- a constant
    """What `archive` would do, as far as can be seen without doing it. Writes nothing, and takes no lock."""
    began = time.perf_counter()
    now = time.time()
    done = ArchiveResult(dry_run=True)
    check_archive_folder(settings)
    with closing(open_catalog(settings.index_folder)) as catalog, Archive(settings.archive) as folder:
        planned = make_plan(settings, catalog, options.age, now)
        done.archived = [
            ArchivedFile(one.file(), len(one.logs), one.bytes, estimate_size(settings, one)) for one in planned.targets
        ]
        done.kept = planned.kept
        done.cleared = len(planned.leftovers)
        done.deleted = expired_archives(catalog, folder, now, options.keep, options.keep_size)
        for path in compact.days_to_compact(settings.index_folder, catalog, options.age, now):
            size = path.stat().st_size
            done.compacted.append(CompactedDay(path.stem, size, size))
    done.seconds = time.perf_counter() - began
    return done


# ---- the work


class _Job:
    def __init__(self, settings: Settings, options: ArchiveOptions, report: Reporter) -> None:
        self.settings = settings
        self.options = options
        self.done = ArchiveResult(dry_run=False)
        self._report = report
        self._bytes = self._total = self._entries = 0

    def run(self, owner_: IndexOwner, folder: Archive, agreed: Callable[[list[ExpiredArchive]], bool]) -> None:
        now = time.time()
        index_folder = self.settings.index_folder
        with closing(open_catalog(index_folder)) as catalog:
            planned = make_plan(self.settings, catalog, self.options.age, now)
        self.done.kept = planned.kept
        self._total = total_bytes(planned.targets)
        self._clear(owner_, folder, planned)
        for targets in _batches(planned.targets):
            self._archive(owner_, folder, targets)
        self._sweep_superseded(folder)
        with closing(open_catalog(index_folder)) as catalog:
            going = expired_archives(catalog, folder, now, self.options.keep, self.options.keep_size)
        if going and agreed(going):
            self._delete(owner_, folder, going)
        self._compact(owner_, now)
        self.done.kept.sort()

    def _archive(self, owner_: IndexOwner, folder: Archive, targets: list[Target]) -> None:
        """Some archives: made one by one, noted together, so that a sync is shared by many."""
        made: list[tuple[Target, PackedArchive]] = []
        failed: SidecarError | None = None
        for target in targets:
            try:
                packed = pack_archive(folder, self.settings.root, target, self._tell)
            except OSError as error:
                failed = SidecarError(
                    f"{folder.folder / target.file()}: {error.strerror or error}",
                    hint="what was archived before is whole; make room, and run it again",
                )
                break
            self.done.kept += packed.left_out
            self._entries += sum(log.entries for log in target.logs)
            if packed.moves:
                made.append((target, packed))
        if made:
            self._note(owner_, folder, made)
        if failed is not None:
            raise failed

    def _note(self, owner_: IndexOwner, folder: Archive, made: list[tuple[Target, PackedArchive]]) -> None:
        make_durable(folder, [packed.file for _, packed in made])
        moves = [move for _, packed in made for move in packed.moves]
        refused = owner_.archive(moves, os.fspath(folder.folder))
        self.done.kept += [SkippedLog(path, why) for path, why in refused.items()]
        for target, packed in made:
            accepted = [move for move in packed.moves if move.path not in refused]
            if not accepted:
                delete_archive(folder, packed.file)  # nothing points into it
                continue
            size = sum(move.part.size for move in accepted)
            self.done.archived.append(ArchivedFile(packed.file, len(accepted), size, packed.size))
            get_logger(__name__).info("%s: %d logs archived, %d bytes", packed.file, len(accepted), size)
            self._remove(owner_, [(move.path, move.looks) for move in accepted], is_session=not target.is_tar)

    def _tell(self, count: int) -> None:
        self._bytes += count
        self._report(Report("archiving", self._bytes, max(self._bytes, self._total), self._entries))

    def _clear(self, owner_: IndexOwner, folder: Archive, planned: ArchivePlan) -> None:
        """Delete the logs that an earlier run has archived, if the archive still holds the same."""
        for log in planned.leftovers:
            part = log.parts[-1]
            try:
                is_same = begins_with(resolve_under(self.settings.root, log.path), part)
                if not is_same or folder.sign(part.file, part.at, part.size) != part.sign:
                    self.done.kept.append(SkippedLog(log.path, "its archive holds other bytes"))
                    continue
            except (OSError, SourceError) as error:
                self.done.kept.append(SkippedLog(log.path, f"its archive cannot be read: {error}"))
                continue
            self.done.cleared += self._remove(owner_, [(log.path, log.looks)], is_session=log.layout == "session")

    def _sweep_superseded(self, folder: Archive) -> None:
        """Delete archives that nothing points into, because all that they hold lies in others as well: what a kill
        leaves, and a log that was put back and has grown."""
        with closing(open_catalog(self.settings.index_folder)) as catalog:
            archived = catalog.archived()
        used = {part.file for parts in archived.values() for part in parts}
        for file in folder.files():
            if file not in used:
                with suppress(SidecarError, OSError):
                    if all(_lies_elsewhere(folder, member, archived) for member in folder.members(file)):
                        delete_archive(folder, file)

    def _remove(self, owner_: IndexOwner, logs: Iterable[tuple[str, remove.Stat]], *, is_session: bool) -> int:
        """Delete logs whose bytes are in the archive; gives how many went."""
        count = 0
        folders: set[Path] = set()
        for path, looks in logs:
            try:
                patience = WRITER_GRACE if is_session else 0.0
                log_folder = remove.remove_log(
                    self.settings.root, path, looks, self.settings.index_folder, patience=patience
                )
            except FileNotFoundError:
                log_folder = resolve_under(self.settings.root, path).parent
            except (OSError, SourceError) as error:
                why = getattr(error, "strerror", None) or error
                self.done.kept.append(SkippedLog(path, f"archived, and not deleted: {why}"))
                continue
            count += 1
            folders.add(log_folder)
            if isinstance(owner_, IndexWriter):
                owner_.vanished(path)
        if not is_session:
            for folder in folders:
                with suppress(OSError, SourceError), folder_inside(self.settings.root, folder.parent) as parent:
                    os.rmdir(folder.name, dir_fd=parent)  # where nothing else lies in it
        return count

    def _delete(self, owner_: IndexOwner, folder: Archive, going: list[ExpiredArchive]) -> None:
        refused = owner_.drop([path for one in going for path in one.logs])
        gone = [one for one in going if not any(path in refused for path in one.logs)]
        folder.close()
        for one in gone:
            delete_archive(folder, one.file)
        self.done.deleted = gone

    def _compact(self, owner_: IndexOwner, now: float) -> None:
        folder = self.settings.index_folder
        with closing(open_catalog(folder)) as catalog:
            paths = compact.days_to_compact(folder, catalog, self.options.age, now)
        for path in paths:
            try:
                with closing(open_catalog(folder)) as catalog:
                    checkpoint = int(catalog.fact("checkpoint") or 0)
                before = path.stat().st_size
                made = compact.compact_copy(folder, path, checkpoint)
            except (OSError, sqlite3.Error, IndexMissing) as error:
                self.done.days_kept.append(SkippedLog(path.stem, str(error)))  # the next run tries again
                continue
            refused = {path.stem: "it is being written"} if made is None else owner_.compact([made])
            if refused:
                self.done.days_kept += [SkippedLog(day, why) for day, why in refused.items()]
                continue
            self.done.compacted.append(CompactedDay(path.stem, before, path.stat().st_size))
        compact.delete_stale_copies(folder)


def _batches(targets: list[Target]) -> Iterator[list[Target]]:
    """Some archives at a time, in their order: few enough that a kill costs little."""
    batch: list[Target] = []
    for target in targets:
        batch.append(target)
        if len(batch) == ARCHIVES_PER_BATCH or total_bytes(batch) > LOG_BYTES_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _lies_elsewhere(folder: Archive, member: ArchivedLog, archived: dict[str, tuple[Extent, ...]]) -> bool:
    """Whether another archive, which the index knows, holds the bytes of a member."""
    start = 0
    for part in archived.get(member.path, ()):
        if start == member.start and part.size >= member.size:
            return folder.sign(part.file, part.at, member.size) == member.sign
        start += part.size
    return False
