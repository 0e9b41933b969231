"""How the index is doing: P3's sum over every file, what lags, and who runs. Reads only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.config.settings import Settings
from sidecar.errors import IndexMissing, SidecarError, SourceError
from sidecar.fs import POLLING_CONFIGURED, to_os, why_polling
from sidecar.logs.archive_file import Archive
from sidecar.logs.scanner import FoundFile, Scan
from sidecar.logs.tail import NotAFile, open_regular
from sidecar.query.catalog_reader import open_catalog
from sidecar.records import Extent, archived_size
from sidecar.service import heartbeat
from sidecar.service.lock import lock_holder
from sidecar.store import layout

MAX_LISTED = 5
"""Archives that are gone, told one by one."""

MAX_HEALTHY_LAG = 10.0
"""Seconds of lag from which it is no longer health."""


@dataclass(frozen=True, slots=True)
class ByteSum:
    """Where the bytes of the logs went: `total` is the sum of the others, or something is wrong (P3)."""

    total: int = 0
    indexed: int = 0
    blank: int = 0
    rejected: int = 0
    skipped: int = 0
    waiting: int = 0
    """Behind the last line end: unfinished lines."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One log file."""

    path: str
    size: int
    indexed: int
    blank: int
    rejected: int
    skipped: int
    waiting: int
    behind: int
    """Bytes of whole lines that are not indexed yet."""
    entries: int
    status: str
    """`ok`, `behind`, `archived` with no file of its own left, `missing` or `wrong`."""
    archived: int = 0
    """Bytes of it that lie in the archive; `size` is with them."""


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """What lies in the archive. Its bytes of log are in the sum like any others."""

    logs: int = 0
    """Sources of which something is archived."""
    bytes: int = 0
    """Of log."""
    files: int = 0
    disk_bytes: int = 0
    """What these files take."""


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to `sidecar status`."""

    healthy: bool
    reasons: tuple[str, ...]
    """Why it is not healthy."""
    sources: int
    entries: int
    bytes: ByteSum
    behind_bytes: int
    rejected: int
    """Lines that are no records."""
    missing: int
    """Sources whose file is gone; their bytes are in no sum."""
    days: int
    lag_seconds: float
    """For how long the oldest line that is not indexed has been there."""
    watching: str
    """`inotify` or `polling`: of the running sidecar, or what one would use."""
    running: int | None
    """Process id of the sidecar that holds the root."""
    archive: ArchiveStatus = field(default_factory=ArchiveStatus)
    source_list: tuple[SourceStatus, ...] = ()
    why_polling: str = ""
    """Why `watching` is `polling`; empty while it is not."""


@dataclass(slots=True)
class _CatalogView:
    """What the catalog says of a source."""

    offset: int
    counts: tuple[int, int, int, int]
    entries: int
    looked: tuple[int, int]
    """Size and time of change of the file as it was last looked at."""
    parts: tuple[Extent, ...]

    @property
    def archived(self) -> int:
        """Bytes of it that lie in the archive."""
        return archived_size(self.parts)


def status_of(settings: Settings, *, sources: bool = False) -> Status:
    """Compare every log file with what the catalog says of it. Raises ConfigError where there is no root."""
    now = time.time()
    folder = settings.index_folder
    held = lock_holder(folder)
    said = heartbeat.read_heartbeat(folder) if held else None
    reasons = [*(said.trouble if said else ()), *_of_the_disk(settings)]
    noted, rejected, days, entries = _catalog(folder, reasons)
    archive = _archive(settings, [one.parts for one in noted.values() if one.parts], reasons)

    files: list[SourceStatus] = []
    oldest = now
    scan = Scan(settings)
    for found in scan:
        file = _compare(settings.root, found, noted.pop(found.path, None))
        if file.behind:
            oldest = min(oldest, found.status.st_mtime)
        files.append(file)
    reasons += [f"cannot read {name or settings.root}: {why}" for name, why in scan.failed.items()]
    away = [_away(path, one) for path, one in noted.items() if one.parts and one.offset <= one.archived]
    files += away
    gone = [
        SourceStatus(path, 0, *one.counts, 0, 0, one.entries, "missing")
        for path, one in noted.items()
        if not one.parts or one.offset > one.archived
    ]

    wrong = [file.path for file in files if file.status == "wrong"]
    if wrong:
        reasons.append(f"the sum does not add up for {len(wrong)} files, first {wrong[0]}")
    behind = sum(file.behind for file in files)
    lag = max(0.0, now - oldest) if behind else 0.0
    watching, why = (said.watching, said.why) if said and said.watching else _would_watch(settings)
    if behind and held is None:
        reasons.append(f"{behind} bytes are not indexed, and no sidecar runs")
    elif lag > MAX_HEALTHY_LAG:
        reasons.append(f"{behind} bytes are not indexed; the oldest wait for {lag:.0f} s")
    return Status(
        healthy=not reasons,
        reasons=tuple(reasons),
        sources=len(files) + len(gone),
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
        missing=len(gone),
        days=days,
        lag_seconds=round(lag, 3),
        watching=watching,
        running=held[0] if held and held[1].startswith("run") else None,
        archive=archive,
        source_list=tuple(sorted([*files, *gone], key=lambda file: file.path)) if sources else (),
        why_polling=why,
    )


def _of_the_disk(settings: Settings) -> Iterator[str]:
    """What a sidecar may be unable to say for itself, because it can write nothing."""
    root, folder = settings.root, settings.index_folder
    try:
        with os.scandir(root) as entries:
            if next(entries, None) is None:
                yield f"the root {root} is empty: if it is a mount point, nothing is mounted there"
        disk = os.statvfs(folder)
        owned_by_root = os.stat(folder).st_uid == 0
    except OSError:
        return  # the scan or the catalog tells of it
    if disk.f_flag & os.ST_RDONLY:
        yield f"{folder} lies on a file system that is mounted read-only"
    if disk.f_blocks and not (disk.f_bfree if owned_by_root else disk.f_bavail):
        yield f"{folder}: no space left on the disk"


def _would_watch(settings: Settings) -> tuple[str, str]:
    """How a sidecar would watch this root, and why it would poll."""
    why = POLLING_CONFIGURED if settings.polling else why_polling(settings.root)
    return ("polling" if why else "inotify"), why


def _catalog(folder: Path, reasons: list[str]) -> tuple[dict[str, _CatalogView], int, int, int]:
    """Sources by path, rejected lines, days and entries; nothing, and a reason, where there is no catalog."""
    try:
        with closing(open_catalog(folder)) as catalog:
            sources = catalog.sources()
            parts = catalog.archived()
            looked = catalog.looked()  # after them: a source may have come in between, and none ever goes
            noted = {
                path: _CatalogView(
                    offset, (indexed, blank, rejected, skipped), entries, looked[path], parts.get(path, ())
                )
                for path, offset, indexed, blank, rejected, skipped, entries in sources
            }
            days = catalog.days()
            there = {path.name for path in layout.daily_paths(folder)}
            reasons += [f"the index of {day} is missing" for day, *_ in days if f"{day}.db" not in there]
            return noted, catalog.count_rejected(), len(days), sum(int(day[3]) for day in days)
    except IndexMissing:
        reasons.append("there is no index yet")
    except SidecarError as error:
        reasons.append(str(error))
    return {}, 0, 0, 0


def _compare(root: Path, found: FoundFile, noted: _CatalogView | None) -> SourceStatus:
    """One file against its accounts. What lies behind the offset waits, or is behind if it holds a line end."""
    path, file = found.path, found.status
    offset = noted.offset if noted else 0
    counts = noted.counts if noted else (0, 0, 0, 0)
    begin = noted.archived if noted else 0
    if noted and begin and offset == begin and noted.looked == (file.st_size, file.st_mtime_ns) and file.st_size:
        return _away(path, noted)  # it was archived, and is about to be deleted
    size = begin + file.st_size
    rest = size - offset
    if sum(counts) != offset or offset < 0:
        return SourceStatus(path, size, *counts, max(0, rest), 0, noted.entries if noted else 0, "wrong", begin)
    if found.source.layout == "file":
        # All of an event file counts, or nothing of it yet: then it was looked at, and waits, or it was not.
        looked = (file.st_size, file.st_mtime_ns)
        is_behind = noted is None or (rest != 0 if noted.offset > begin else noted.looked != looked)
    else:
        is_behind = rest < 0 or (rest > 0 and _has_line_end(root, path, offset - begin))
    waiting, behind = (0, abs(rest)) if is_behind else (rest, 0)
    state = "behind" if behind else "ok"
    return SourceStatus(path, size, *counts, waiting, behind, noted.entries if noted else 0, state, begin)


def _away(path: str, noted: _CatalogView) -> SourceStatus:
    """A log that lies in the archive whole. What was not read there, because it is damaged, is behind."""
    behind = noted.archived - noted.offset
    state = "wrong" if sum(noted.counts) != noted.offset else "behind" if behind else "archived"
    return SourceStatus(path, noted.archived, *noted.counts, 0, behind, noted.entries, state, noted.archived)


def _archive(settings: Settings, logs: list[tuple[Extent, ...]], reasons: list[str]) -> ArchiveStatus:
    """What the archive takes; a reason for each file of it that is gone, the first few of them."""
    if not logs:
        return ArchiveStatus()
    archive = Archive(settings.archive)
    disk = 0
    lost: list[str] = []
    files = sorted({part.file for parts in logs for part in parts})
    for file in files:
        try:
            disk += archive.size(file)
        except SourceError as error:
            lost.append(str(error))
    reasons += lost[:MAX_LISTED]
    if len(lost) > MAX_LISTED:
        reasons.append(f"and {len(lost) - MAX_LISTED:,} more archives cannot be read")
    return ArchiveStatus(len(logs), sum(map(archived_size, logs)), len(files), disk)


def _has_line_end(root: Path, path: str, offset: int) -> bool:
    try:
        with open_regular(root / to_os(path)) as (fd, _):
            while chunk := os.pread(fd, 1 << 20, offset):
                if b"\n" in chunk:
                    return True
                offset += len(chunk)
    except (OSError, NotAFile):
        return True
    return False
