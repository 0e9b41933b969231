"""`sidecar status`: the sum of P3 (docs/testing.md) over every file, the lag, and the running sidecar. Reads only."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from sidecar.config.settings import Settings
from sidecar.errors import ConfigError, IndexMissing, SidecarError, SourceError
from sidecar.fs import POLLING_CONFIGURED, FileStat, path_under, why_polling
from sidecar.logs.archive_file import Archive
from sidecar.logs.scanner import FoundFile, Scan
from sidecar.logs.tail import has_line_end
from sidecar.query.catalog_reader import EarlierPart, open_catalog
from sidecar.query.day_reader import DayReader
from sidecar.records import Dropped, Extent, archived_size
from sidecar.service.heartbeat import read_heartbeat
from sidecar.service.index_folder import check_index_folder
from sidecar.service.lock import lock_holder
from sidecar.store import layout
from sidecar.store.database_files import WAL

from .coverage import misfits
from .dates import TimeCounts, UnreadableTimes, times_of
from .log_checks import dropped_entries, unread_parts
from .readers import held_logs

MAX_LISTED = 5
"""Missing archives that are listed one by one."""

MAX_HEALTHY_LAG = 10.0
"""Seconds of lag above which the sidecar counts as unhealthy."""


@dataclass(frozen=True, slots=True)
class ByteSum:
    """Where the bytes of the logs went. If all is well and nothing is behind, `total` is the sum of the others (P3)."""

    total: int = 0
    indexed: int = 0
    blank: int = 0
    rejected: int = 0
    skipped: int = 0
    waiting: int = 0
    """Bytes after the last line end: incomplete lines."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One log. All sizes are in bytes."""

    path: str
    """Relative to the root, with `/`."""
    size: int
    indexed: int
    blank: int
    rejected: int
    skipped: int
    waiting: int
    behind: int
    """Bytes with complete lines that are not indexed yet."""
    entries: int
    status: str
    """`ok`, `behind`, `archived` (wholly, the file is deleted), `missing`, or `wrong` (the counts do not add up)."""
    archived: int = 0
    """Bytes of it that are in the archive; `size` includes them."""
    times: TimeCounts = field(default_factory=TimeCounts)
    repaired: int = 0
    """How many of its records are not strict JSON, and were read leniently."""


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """What is in the archive. Archived bytes are part of the `ByteSum` like any others."""

    logs: int = 0
    """Logs of which something is archived."""
    bytes: int = 0
    """Uncompressed bytes of log."""
    files: int = 0
    """Archive files."""
    disk_bytes: int = 0
    """Size of the archive files on disk."""


@dataclass(frozen=True, slots=True)
class Status:
    """The result of `status_of`."""

    healthy: bool
    reasons: tuple[str, ...]
    """Why it is not healthy, one sentence each."""
    sources: int
    """Logs, those whose file is missing included."""
    entries: int
    bytes: ByteSum
    behind_bytes: int
    """Bytes with complete lines that are not indexed yet."""
    rejected: int
    """Lines that are not records."""
    missing: int
    """Logs whose file is gone. Their bytes are not part of `bytes`."""
    days: int
    """Days with entries."""
    lag_seconds: float
    """Seconds since the oldest change of a file of which readers do not see every line yet; 0 if there is none. Readers
    see rows before the checkpoint that saves them, so this may be 0 while `behind_bytes` is not."""
    watching: str
    """`inotify` or `polling`: the mode of the running sidecar, or the one it would use."""
    running: int | None
    """Process id of the running sidecar, or None."""
    archive: ArchiveStatus = field(default_factory=ArchiveStatus)
    dropped: int = 0
    """Entries that were dropped because their logs were replaced or truncated."""
    dropped_list: tuple[Dropped, ...] = ()
    """The first MAX_LISTED of their logs, with the reasons."""
    skipped_paths: int = 0
    """The number of links, compressed logs and linked folders that are passed over, and of globs that match nothing."""
    source_list: tuple[SourceStatus, ...] = ()
    """Every log by path, if they were asked for."""
    times: TimeCounts = field(default_factory=TimeCounts)
    """Where the times of the entries came from."""
    unreadable_times: UnreadableTimes = field(default_factory=UnreadableTimes)
    odd_times: tuple[str, ...] = ()
    """What is odd about the times, in sentences. The index may still be healthy, because this is what the logs say."""
    why_polling: str = ""
    """Why `watching` is `polling`; empty while it is not."""
    repaired: int = 0
    """How many records are not strict JSON, and were read leniently."""


@dataclass(slots=True)
class _CatalogView:
    """What the catalog records of a source."""

    offset: int
    counts: tuple[int, int, int, int]
    entries: int
    repaired: int
    last_read: tuple[int, int]
    """Size and modification time (ns) of the file when it was last read."""
    extents: tuple[Extent, ...]
    parts: list[EarlierPart]

    @property
    def in_plain_file(self) -> int:
        """The byte of the log's own file up to which it was read, after archived bytes."""
        return self.offset - self.archived - sum(part.offset for part in self.parts)

    @property
    def archived(self) -> int:
        """Bytes of it that are in the archive."""
        return archived_size(self.extents)


def status_of(settings: Settings, *, sources: bool = False) -> Status:
    """Compare every log file with what the catalog records of it.

    With `sources`, the result lists every log. Never raises a SidecarError: what cannot be read is among the reasons.
    """
    now = time.time()
    folder = settings.index_folder
    held = lock_holder(folder)
    heartbeat = read_heartbeat(folder) if held else None
    reasons = [*(heartbeat.trouble if heartbeat else ()), *_disk_faults(settings), *_unreadable(folder)]
    try:
        check_index_folder(settings)
    except ConfigError as error:
        reasons.append(str(error))
    # The catalog reports it.
    with suppress(SidecarError):
        reasons += held_logs(folder, held[0] if held else None)
    recorded, rejected, days, entries = _catalog(folder, reasons)
    dropped = dropped_entries(folder)
    times = times_of(folder)
    archive = _archive(settings, [one.extents for one in recorded.values() if one.extents], reasons)

    files: list[SourceStatus] = []
    oldest = now
    scan = Scan(settings)
    seen = _Seen(folder)
    for found in scan:
        file = _compare(settings.root, found, recorded.pop(found.path, None))
        if file.behind and not seen.has_all_of(settings.root, found, file):
            oldest = min(oldest, found.status.st_mtime)
        files.append(file)
    reasons += [f"cannot read {name or settings.root}: {why}" for name, why in scan.failed.items()]
    archived_only = [
        _archived_file(path, one) for path, one in recorded.items() if one.extents and one.offset <= one.archived
    ]
    files += archived_only
    missing = [
        SourceStatus(path, 0, *one.counts, 0, 0, one.entries, "missing", repaired=one.repaired)
        for path, one in recorded.items()
        if not one.extents or one.offset > one.archived
    ]

    files = [replace(file, times=times.by_log.get(file.path, file.times)) for file in files] if sources else files
    wrong = [file.path for file in files if file.status == "wrong"]
    if wrong:
        reasons.append(f"the sum does not add up for {len(wrong)} files, first {wrong[0]}")
    behind = sum(file.behind for file in files)
    lag = max(0.0, now - oldest) if behind else 0.0
    watching, why = (heartbeat.watching, heartbeat.why) if heartbeat and heartbeat.watching else _would_watch(settings)
    if not (reasons or behind):
        reasons += misfits(settings, [(file.path, file.entries, file.rejected) for file in (*files, *missing)])
    if behind and held is None:
        reasons.append(f"{behind} bytes are not indexed, and no sidecar is running")
    elif lag > MAX_HEALTHY_LAG:
        reasons.append(f"{behind} bytes are not indexed; the oldest wait for {lag:.0f} s")
    return Status(
        healthy=not reasons,
        reasons=tuple(reasons),
        sources=len(files) + len(missing),
        entries=entries,
        bytes=ByteSum(
            sum(file.size for file in files),
            sum(file.indexed for file in files),
            sum(file.blank for file in files),
            sum(file.rejected for file in files),
            sum(file.skipped for file in files),
            sum(file.waiting for file in files),
        ),
        behind_bytes=behind,
        rejected=rejected,
        missing=len(missing),
        days=days,
        lag_seconds=round(lag, 3),
        watching=watching,
        running=held[0] if held and held[1].startswith("run") else None,
        archive=archive,
        dropped=sum(one.entries for one in dropped),
        dropped_list=tuple(dropped[:MAX_LISTED]),
        skipped_paths=scan.skipped_paths,
        source_list=tuple(sorted([*files, *missing], key=lambda file: file.path)) if sources else (),
        times=times.counts,
        unreadable_times=times.unreadable,
        odd_times=times.odd,
        why_polling=why,
        repaired=sum(file.repaired for file in (*files, *missing)),
    )


class _Seen:
    """How far readers see into the logs, which may be beyond what is saved. Read once, and only if a log is behind."""

    def __init__(self, index_folder: Path) -> None:
        self._folder = index_folder
        self._reached: dict[str, int] | None = None

    def has_all_of(self, root: Path, found: FoundFile, file: SourceStatus) -> bool:
        """Whether readers see every record of a file that is behind, as far as it was written when it was found."""
        if self._reached is None:
            self._reached = {}
            with suppress(SidecarError):
                self._look()
        end = self._reached.get(found.path)
        if end is None:
            return False
        if found.source.layout == "file":
            return end >= file.size - 1
        behind = max(0, end + 1 - file.archived)
        return end >= file.size or not has_line_end(path_under(root, found.path), behind)

    def _look(self) -> None:
        assert self._reached is not None
        with closing(open_catalog(self._folder)) as catalog:
            checkpoint = int(catalog.fact("checkpoint") or 0)
        for path in layout.daily_paths(self._folder):
            if not path.with_name(path.name + WAL).exists():
                # A sidecar keeps the days open that it writes to, and these have a write-ahead log.
                continue
            with suppress(SidecarError), closing(DayReader(path)) as day:
                for name, end in day.reached(checkpoint).items():
                    self._reached[name] = max(end, self._reached.get(name, 0))


def _disk_faults(settings: Settings) -> Iterator[str]:
    """Faults of the disk that a sidecar may be unable to report itself, because it cannot write."""
    root, folder = settings.root, settings.index_folder
    try:
        with os.scandir(root) as entries:
            if next(entries, None) is None:
                yield f"the root {root} is empty: if it is a mount point, nothing is mounted there"
        disk = os.statvfs(folder)
        owned_by_root = os.stat(folder).st_uid == 0
    except OSError:
        # Reported by the scan or the catalog.
        return
    if disk.f_flag & os.ST_RDONLY:
        yield f"{folder} is on a file system that is mounted read-only"
    if disk.f_blocks and not (disk.f_bfree if owned_by_root else disk.f_bavail):
        yield f"{folder}: no space left on the disk"


def _unreadable(folder: Path) -> Iterator[str]:
    """The first daily file that this user cannot read: what it says is not known then."""
    # The catalog reports it.
    with suppress(SidecarError):
        for path in layout.daily_paths(folder):
            if os.path.lexists(path) and not os.access(path, os.R_OK):
                yield f"{path}: {os.strerror(errno.EACCES)}"
                break


def _would_watch(settings: Settings) -> tuple[str, str]:
    """How a sidecar would watch this root, and why it would poll."""
    why = POLLING_CONFIGURED if settings.polling else why_polling(settings.root)
    return ("polling" if why else "inotify"), why


def _catalog(folder: Path, reasons: list[str]) -> tuple[dict[str, _CatalogView], int, int, int]:
    """Sources by path, and the numbers of rejected lines, days and entries; nothing and zeros without a catalog.

    Appends to `reasons` what is missing or cannot be read.
    """
    try:
        with closing(open_catalog(folder)) as catalog:
            sources = catalog.sources()
            extents = catalog.archived()
            repaired = catalog.repaired()
            parts = catalog.earlier_parts()
            # After the sources: one may be added in between, and none is ever removed.
            last_read = catalog.looked()
            recorded = {
                path: _CatalogView(
                    *(offset, (*counts,), entries, repaired.get(path, 0)),
                    *(last_read[path], extents.get(path, ()), parts.get(path, [])),
                )
                for path, offset, *counts, entries in sources
            }
            days = catalog.days()
            there = {path.name for path in layout.daily_paths(folder)}
            reasons += [f"the index of {day} is missing" for day, *_ in days if f"{day}.db" not in there]
            return recorded, catalog.count_rejected(), len(days), sum(int(day[3]) for day in days)
    except IndexMissing:
        reasons.append("there is no index yet")
    except SidecarError as error:
        reasons.append(str(error))
    return {}, 0, 0, 0


def _compare(root: Path, found: FoundFile, recorded: _CatalogView | None) -> SourceStatus:
    """Compare a file with its catalog row. Bytes after the offset are behind if they hold a line end, else waiting."""
    path, file = found.path, found.status
    offset = recorded.offset if recorded else 0
    counts = recorded.counts if recorded else (0, 0, 0, 0)
    entries, repaired = (recorded.entries, recorded.repaired) if recorded else (0, 0)
    begin = recorded.archived if recorded else 0
    if recorded and begin and offset == begin and recorded.last_read == FileStat.of(file)[2:] and file.st_size:
        # It is archived, and about to be deleted.
        return _archived_file(path, recorded)
    unread = unread_parts(root, found, *((recorded.in_plain_file, recorded.parts) if recorded else (0, [])))
    size = offset + sum(end - at for _, at, end in unread)
    unindexed = size - offset
    if sum(counts) != offset or offset < 0:
        return SourceStatus(path, size, *counts, max(0, unindexed), 0, entries, "wrong", begin, repaired=repaired)
    if found.source.layout == "file":
        # An event file is indexed as a whole or not at all. If not, it waits if it was read as it is now, else it is
        # behind.
        as_now = FileStat.of(file)[2:]
        is_behind = recorded is None or (unindexed != 0 if recorded.offset > begin else recorded.last_read != as_now)
    else:
        is_behind = any(end != at and (end < at or has_line_end(path_under(root, one), at)) for one, at, end in unread)
    waiting, behind = (0, abs(unindexed)) if is_behind else (unindexed, 0)
    state = "behind" if behind else "ok"
    return SourceStatus(path, size, *counts, waiting, behind, entries, state, begin, repaired=repaired)


def _archived_file(path: str, recorded: _CatalogView) -> SourceStatus:
    """A log that is wholly in the archive. Bytes that could not be read there, because of damage, are behind."""
    behind = recorded.archived - recorded.offset
    state = "wrong" if sum(recorded.counts) != recorded.offset else "behind" if behind else "archived"
    size = recorded.archived
    counted = (*recorded.counts, 0, behind, recorded.entries)
    return SourceStatus(path, size, *counted, state, size, repaired=recorded.repaired)


def _archive(settings: Settings, logs: list[tuple[Extent, ...]], reasons: list[str]) -> ArchiveStatus:
    """The size of the archive. Adds to `reasons` the first few of its files that cannot be read."""
    if not logs:
        return ArchiveStatus()
    archive = Archive(settings.archive)
    disk = 0
    lost: list[str] = []
    files = sorted({extent.file for extents in logs for extent in extents})
    for file in files:
        try:
            disk += archive.size(file)
        except SourceError as error:
            lost.append(str(error))
    reasons += lost[:MAX_LISTED]
    if len(lost) > MAX_LISTED:
        reasons.append(f"and {len(lost) - MAX_LISTED:,} more archives cannot be read")
    return ArchiveStatus(len(logs), sum(map(archived_size, logs)), len(files), disk)
