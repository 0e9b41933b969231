"""Which logs go into which archive, and why the others stay; and which archives have expired. Writes nothing.

A completed session gets an archive of its own in `sessions/<day>/`, the UTC day of its last record. Event files and
streams are archived if their folder is named after a day that is over, each such folder as one
`events/events_<day>.tar.zst`. Other streams stay, because nothing says that they are complete. A log is archived only
if it has not changed for the required age, is indexed to its last byte, and is not in use. So its last line may have no
line end, if it was taken without one.

Retention, which is off by default, deletes archives by the age of their day or by their total size. A log is deleted
whole or not at all: an archive stays if one of its logs has another part that stays, or continues in a log file. Rows
are deleted before the archive. A kill in between leaves an archive that the index does not know: the next run with the
same option deletes it, and a rebuild before that indexes it again.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

from sidecar.config.settings import Settings
from sidecar.errors import SourceError
from sidecar.fs import FileStat, path_under, split_path, to_os
from sidecar.logs.archive_file import Archive
from sidecar.logs.scanner import FoundFile, Scan
from sidecar.logs.tail import has_line_end, is_all_nul
from sidecar.query.catalog_reader import CatalogReader, SourceSummary
from sidecar.records import Extent, Layout, archived_size
from sidecar.times import day_of

from .remove import why_in_use, writer_of

NEVER_INDEXED = "not indexed yet"
NOT_TO_ITS_END = "not indexed to its end"
INCOMPLETE_LINE = "its last line is incomplete"
ENDS_IN_NULS = "it ends in NUL bytes without a line end"
NOT_COMPLETED = "not completed"
NO_DAY = "not in a folder named after a day"
DAY_NOT_OVER = "its day is not over"
CHANGED_RECENTLY = "changed a short time ago"
EMPTY = "empty"
ROTATED = "rotated: its parts stay together in the log folder"
UNREADABLE = "cannot be read"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MAX_NAME_BYTES = 200


class Candidate(NamedTuple):
    """A log file that may be archived, as it is now and as it was indexed."""

    path: str
    """Relative to the root, as in the index."""
    stat: FileStat
    lines: int
    """Lines in the file, without the archived ones."""
    entries: int
    first_mtime: float | None
    """The modification time noted when the file was first seen, in seconds since 1970."""
    extents: tuple[Extent, ...]
    """The extents of the log that have been archived before."""
    layout: Layout

    @property
    def size(self) -> int:
        """The number of bytes in the file."""
        return self.stat.size


class Target(NamedTuple):
    """An archive to be made."""

    folder: str
    """Relative to the archive folder."""
    name: str
    """Without the suffix."""
    suffix: str
    """`.tar.zst` for the logs of a folder; for a session, that of the log and `.zst`."""
    logs: tuple[Candidate, ...]

    @property
    def is_tar(self) -> bool:
        """Whether it may contain several logs."""
        return self.suffix == ".tar.zst"

    @property
    def bytes(self) -> int:
        """The number of bytes of log that go into it."""
        return sum(log.size for log in self.logs)

    def file(self, number: int = 1) -> str:
        """Its path relative to the archive folder. Further names, if this one is taken, are numbered from 2 on."""
        return f"{self.folder}/{self.name}{f'.{number}' if number > 1 else ''}{self.suffix}"


class SkippedLog(NamedTuple):
    """A log that stays where it is, and why."""

    path: str
    why: str


class ArchivePlan(NamedTuple):
    """What a run has to do."""

    targets: list[Target]
    skipped: list[SkippedLog]
    """Sorted by path."""
    leftovers: list[Candidate]
    """Logs that an earlier run archived, but could not delete before it was killed."""


def make_plan(settings: Settings, catalog: CatalogReader, age: float, now: float) -> ArchivePlan:
    """Decide for every log file below the root whether it is archived, and where. `age` is in seconds, `now` in seconds
    since 1970. Raises IndexDamaged, and SidecarError if the catalog cannot be read."""
    known = {source.path: source for source in catalog.standing()}
    archived = catalog.archived()
    rotated = catalog.earlier_parts()
    completed = {session.session_id for session in catalog.sessions("completed")}
    skipped: list[SkippedLog] = []
    leftovers: list[Candidate] = []
    sessions: list[Target] = []
    folders: defaultdict[str, list[tuple[Candidate, str | None]]] = defaultdict(list)
    scan = Scan(settings)
    for found in sorted(scan):
        source, extents = known.get(found.path), archived.get(found.path, ())
        if source is None:
            skipped.append(SkippedLog(found.path, NEVER_INDEXED))
            continue
        if found.parts or found.path in rotated:
            skipped.append(SkippedLog(found.path, ROTATED))
            continue
        log = _candidate(found, source, extents)
        if extents and source.offset == archived_size(extents) and log.stat == source.looks and log.size:
            leftovers.append(log)
            continue
        why: str | None
        if log.layout == "session":
            # Other tools do not record that a session is over.
            is_over = settings.of_tool or source.stem in completed
            why = _why_not(settings, found, source, log, age, now) if is_over else NOT_COMPLETED
            if why is None:
                sessions.append(_session_target(catalog, log))
                continue
        else:
            folder, day = _day_folder(found.path)
            if day is not None and _is_over(day, now):
                folders[folder].append((log, _why_not(settings, found, source, log, age, now)))
                continue
            why = NO_DAY if day is None else DAY_NOT_OVER
        skipped.append(SkippedLog(found.path, why))
    skipped += [SkippedLog(path, f"{UNREADABLE}: {why}") for path, why in scan.failed.items()]
    targets = sessions
    for folder, logs in sorted(folders.items()):
        target, left = _folder_target(folder, logs)
        skipped += left
        if target.logs:
            targets.append(target)
    return ArchivePlan(targets, sorted(skipped), leftovers)


def _candidate(found: FoundFile, source: SourceSummary, extents: tuple[Extent, ...]) -> Candidate:
    lines = source.lines - sum(extent.lines for extent in extents)
    stat = FileStat.of(found.status)
    return Candidate(found.path, stat, lines, source.entries, source.first_mtime, extents, found.source.layout)


def _why_not(
    settings: Settings, found: FoundFile, source: SourceSummary, log: Candidate, age: float, now: float
) -> str | None:
    """Why a log has to stay, whatever its layout; None if it may go."""
    path = path_under(settings.root, log.path)
    unread = log.size - (source.offset - archived_size(log.extents))
    if unread:
        is_incomplete = unread > 0 and log.layout != "file" and not has_line_end(path, log.size - unread)
        if not is_incomplete:
            return NOT_TO_ITS_END
        return ENDS_IN_NULS if is_all_nul(path, log.size - unread) else INCOMPLETE_LINE
    if not log.size:
        return EMPTY
    if log.stat != source.looks:
        return NOT_TO_ITS_END
    if now - found.status.st_mtime < age:
        return CHANGED_RECENTLY
    if log.layout == "session" and (writer := writer_of(path.with_name(f"{path.name}.lock"))) is not None:
        return f"held by a writer: {writer}" if writer else "held by a writer"
    return why_in_use(path)


def _day_folder(path: str) -> tuple[str, str | None]:
    """The innermost folder in a path that is named after a day, and that day; ("", None) if there is none."""
    names = to_os(path).split("/")[:-1]
    for length in range(len(names), 0, -1):
        name = names[length - 1]
        if _DAY.fullmatch(name):
            try:
                date.fromisoformat(name)
            except ValueError:
                continue
            return "/".join(names[:length]), name
    return "", None


def _is_over(day: str, now: float) -> bool:
    """Whether a day is over, both in UTC and in local time: daemons name folders after either."""
    return day < min(datetime.fromtimestamp(now, UTC).date(), date.fromtimestamp(now)).isoformat()


def _session_target(catalog: CatalogReader, log: Candidate) -> Target:
    timestamp = catalog.last_timestamp(log.path)
    day = day_of(log.stat.mtime_ns / 1e9 if timestamp is None else timestamp)
    _, stem, suffix = split_path(to_os(log.path))
    return Target(f"sessions/{day}", safe_name(stem, log.path), f"{suffix}.zst", (log,))


def _folder_target(folder: str, logs: list[tuple[Candidate, str | None]]) -> tuple[Target, list[SkippedLog]]:
    """The archive of a day's folder, and the logs that stay. All stay if one of them has changed recently: the daemon
    may still be writing there."""
    above, _, day = folder.rpartition("/")
    name = safe_name(f"{above.replace('/', '-') or 'logs'}_{day}", folder)
    default = CHANGED_RECENTLY if any(why == CHANGED_RECENTLY for _, why in logs) else None
    reasons = [(log, why or default) for log, why in logs]
    target = Target("events", name, ".tar.zst", tuple(log for log, why in reasons if why is None))
    return target, [SkippedLog(log.path, why) for log, why in reasons if why is not None]


def safe_name(name: str, path: str) -> str:
    """A file name for an archive: `name`, or a hash of `path` (`~<16 hex digits>`) if that is too long or not UTF-8."""
    try:
        if len(name.encode()) <= _MAX_NAME_BYTES and to_os(path) == path and name not in ("", ".", ".."):
            return name
    except UnicodeEncodeError:
        pass
    return f"~{blake2b(os.fsencode(to_os(path)), digest_size=8).hexdigest()}"


def total_bytes(targets: Iterable[Target]) -> int:
    """Bytes of log that go into the targets."""
    return sum(target.bytes for target in targets)


# ---- retention


class ExpiredArchive(NamedTuple):
    """An archive that is to be deleted."""

    file: str
    """Relative to the archive folder."""
    size: int
    """Bytes on disk."""
    logs: tuple[str, ...]
    """The logs whose entries go with it; empty if the index does not know the archive."""


def expired_archives(
    catalog: CatalogReader, archive: Archive, now: float, keep: float | None, keep_size: int | None
) -> list[ExpiredArchive]:
    """The archives whose day ended more than `keep` seconds before `now`, and of the others the oldest, until at most
    `keep_size` bytes are left. Sorted by day. None stands for no limit."""
    if keep is None and keep_size is None:
        return []
    logs: defaultdict[str, set[str]] = defaultdict(set)
    files: dict[str, set[str]] = {}
    offsets = {path: offset for path, (offset, _) in catalog.offsets().items()}
    continued: set[str] = set()
    for path, extents in catalog.archived().items():
        files[path] = {extent.file for extent in extents}
        for file in files[path]:
            logs[file].add(path)
        if offsets.get(path, 0) > archived_size(extents):
            continued.add(path)
    sizes: dict[str, int] = {}
    for file in archive.files():
        with suppress(SourceError):
            sizes[file] = archive.size(file)
    oldest_first = sorted(sizes, key=lambda file: (_day_of(file), file))
    expired = {file for file in oldest_first if keep is not None and _day_end(file) + keep <= now}
    if keep_size is not None:
        total = sum(size for file, size in sizes.items() if file not in expired)
        for file in oldest_first:
            if total <= keep_size:
                break
            if file not in expired:
                expired.add(file)
                total -= sizes[file]
    # A log is deleted whole or not at all, so if one of its archives is kept, so are the others, with all their logs.
    while needed := {
        file for file in expired if any(path in continued or not files[path] <= expired for path in logs.get(file, ()))
    }:
        expired -= needed
    return [
        ExpiredArchive(file, sizes[file], tuple(sorted(logs.get(file, ())))) for file in oldest_first if file in expired
    ]


def _day_of(file: str) -> str:
    """The day of an archive: for a session that of its folder, whatever its name contains; else the end of its name."""
    days = _DAY.findall(file.split("/")[1])
    return days[-1] if days else "9999-12-31"


def _day_end(file: str) -> float:
    """The end of the day of an archive, in seconds since 1970."""
    try:
        return (datetime.fromisoformat(_day_of(file)).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()
    except (ValueError, OverflowError):
        return float("inf")
