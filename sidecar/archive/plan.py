"""What is to be archived, where it goes, and why the rest stays; and which archives have expired. Nothing is written.

A session is archived when the registry has it as completed, by itself, in `sessions/<day>/`, the UTC day of its last
record. Event files and streams are archived when their folder is named after a day that is over: each folder becomes
one `events/events_<day>.tar.zst`. Streams elsewhere stay: nothing says that they are complete. A log that goes is
unchanged for the required age, indexed to its last byte, ends with a line end, and is held by nobody.

Retention, off unless asked for, deletes archives by age (of the day in the name) or by total size. A log is deleted
whole or not at all: an archive stays while it contains part of a log of which another part stays, or that continues in
a file. Rows are deleted first, then the archive:

- killed between the two, the archive is unknown to the index. The next run with the same option deletes it; a rebuild
  before that indexes it again.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

from sidecar.config.settings import Settings
from sidecar.errors import SourceError
from sidecar.fs import FileStat, split_path, to_os
from sidecar.logs.archive_file import Archive
from sidecar.logs.scanner import FoundFile, Scan
from sidecar.logs.tail import has_line_end
from sidecar.query.catalog_reader import CatalogReader, SourceSummary
from sidecar.records import Extent, archived_size
from sidecar.times import day_of

from .remove import why_in_use, writer_of

NEVER_INDEXED = "not indexed yet"
NOT_TO_ITS_END = "not indexed to its end"
WAITING = "its last line waits for its end"
NOT_COMPLETED = "not completed"
NO_DAY = "not in a folder of a day"
TODAY = "its day is not over"
YOUNG = "changed a short time ago"
EMPTY = "empty"
UNREADABLE = "cannot be read"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_LONGEST_NAME = 200


class Candidate(NamedTuple):
    """A log that goes into the archive."""

    path: str
    looks: tuple[int, int, int, int]
    size: int
    """Bytes of its file."""
    lines: int
    entries: int
    first_mtime: float | None
    parts: tuple[Extent, ...]
    """What of it is there already."""
    layout: str


@dataclass(slots=True)
class Target:
    """An archive file to be made."""

    folder: str
    """Below the archive folder."""
    name: str
    """Without the endings."""
    suffix: str
    logs: list[Candidate] = field(default_factory=list)

    @property
    def is_tar(self) -> bool:
        """Many logs in one."""
        return self.suffix == ".tar.zst"

    @property
    def bytes(self) -> int:
        """Of log that go into it."""
        return sum(log.size for log in self.logs)

    def file(self, number: int = 1) -> str:
        """Its path; the next ones where that name is taken."""
        return f"{self.folder}/{self.name}{f'.{number}' if number > 1 else ''}{self.suffix}"


class SkippedLog(NamedTuple):
    """A log that stays where it is, and why."""

    path: str
    why: str


@dataclass(slots=True)
class ArchivePlan:
    """What goes, what stays, and what a run before has archived and not deleted."""

    targets: list[Target]
    kept: list[SkippedLog]
    leftovers: list[Candidate]


def make_plan(settings: Settings, catalog: CatalogReader, age: float, now: float) -> ArchivePlan:
    """Decide for every log below the root. `age` in seconds."""
    known = {one.path: one for one in catalog.standing()}
    archived = catalog.archived()
    completed = {session.session_id for session in catalog.sessions("completed")}
    kept: list[SkippedLog] = []
    leftovers: list[Candidate] = []
    sessions: list[Target] = []
    folders: defaultdict[str, list[tuple[Candidate, str | None]]] = defaultdict(list)
    scan = Scan(settings)
    for found in sorted(scan):
        one, parts = known.get(found.path), archived.get(found.path, ())
        why = _why_not(settings, found, one, parts, age, now)
        if one is None:
            kept.append(SkippedLog(found.path, NEVER_INDEXED))
            continue
        candidate = _candidate(found, one, parts)
        if parts and one.offset == archived_size(parts) and candidate.looks == one.looks and candidate.size:
            leftovers.append(candidate)
            continue
        if found.source.layout == "session":
            why = NOT_COMPLETED if one.stem not in completed else why
            if why is None:
                sessions.append(_of_a_session(catalog, candidate))
        else:
            folder, day = _dated(found.path)
            why = NO_DAY if day is None else TODAY if not _is_over(day, now) else why
            if day is not None and why != TODAY:
                folders[folder].append((candidate, why))
                continue
        if why is not None:
            kept.append(SkippedLog(found.path, why))
    kept += [SkippedLog(path, f"{UNREADABLE}: {why}") for path, why in scan.failed.items()]
    targets = [*sessions, *_of_folders(folders, kept)]
    return ArchivePlan([one for one in targets if one.logs], sorted(kept), leftovers)


def _candidate(found: FoundFile, one: SourceSummary, parts: tuple[Extent, ...]) -> Candidate:
    status = found.status
    looks = FileStat.of(status)
    lines = one.lines - sum(part.lines for part in parts)
    return Candidate(found.path, looks, status.st_size, lines, one.entries, one.first_mtime, parts, found.source.layout)


def _why_not(
    settings: Settings, found: FoundFile, one: SourceSummary | None, parts: tuple[Extent, ...], age: float, now: float
) -> str | None:
    """Why a log has to stay, whatever it is; None for no reason."""
    if one is None:
        return NEVER_INDEXED
    status, path = found.status, settings.root / to_os(found.path)
    rest = status.st_size - (one.offset - archived_size(parts))
    if rest:
        is_indexed = rest > 0 and found.source.layout != "file" and not has_line_end(path, status.st_size - rest)
        return WAITING if is_indexed else NOT_TO_ITS_END
    if not status.st_size:
        return EMPTY
    if FileStat.of(status) != one.looks:
        return NOT_TO_ITS_END
    if now - status.st_mtime < age:
        return YOUNG
    if found.source.layout == "session" and (writer := writer_of(path.with_name(f"{path.name}.lock"))) is not None:
        return f"held by a writer: {writer}" if writer else "held by a writer"
    return why_in_use(path)


def _dated(path: str) -> tuple[str, str | None]:
    """The innermost folder of a path that is named after a day, with all before it, and the day."""
    parts = to_os(path).split("/")[:-1]
    for length in range(len(parts), 0, -1):
        name = parts[length - 1]
        if _DAY.fullmatch(name):
            try:
                date.fromisoformat(name)
            except ValueError:
                continue
            return "/".join(parts[:length]), name
    return "", None


def _is_over(day: str, now: float) -> bool:
    """A day is over when it is so in UTC and where this machine stands: daemons name folders by either."""
    return day < min(datetime.fromtimestamp(now, UTC).date(), date.fromtimestamp(now)).isoformat()


def _of_a_session(catalog: CatalogReader, log: Candidate) -> Target:
    moment = catalog.last_timestamp(log.path)
    day = day_of(log.looks[3] / 1e9 if moment is None else moment)
    _, stem, suffix = split_path(to_os(log.path))
    return Target(f"sessions/{day}", safe_name(stem, log.path), f"{suffix}.zst", [log])


def _of_folders(folders: Mapping[str, list[tuple[Candidate, str | None]]], kept: list[SkippedLog]) -> Iterator[Target]:
    """One archive for each folder; a folder in which anything has changed a short time ago waits as a whole."""
    for folder, logs in sorted(folders.items()):
        above, _, day = folder.rpartition("/")
        is_young = any(why == YOUNG for _, why in logs)
        target = Target("events", safe_name(f"{above.replace('/', '-') or 'logs'}_{day}", folder), ".tar.zst")
        for log, why in logs:
            reason = why or (YOUNG if is_young else None)
            if reason is None:
                target.logs.append(log)
            else:
                kept.append(SkippedLog(log.path, reason))
        yield target


def safe_name(name: str, path: str) -> str:
    """A name for an archive; one that every file system takes, where the log's own might not be."""
    try:
        if len(name.encode()) <= _LONGEST_NAME and to_os(path) == path and name not in ("", ".", ".."):
            return name
    except UnicodeEncodeError:
        pass
    return f"~{blake2b(os.fsencode(to_os(path)), digest_size=8).hexdigest()}"


def total_bytes(targets: Iterable[Target]) -> int:
    """Bytes of log in some targets."""
    return sum(target.bytes for target in targets)


# ---- retention


class ExpiredArchive(NamedTuple):
    """An archive that is to be deleted."""

    file: str
    size: int
    logs: tuple[str, ...]
    """What goes with it; none where the index does not know it."""


def expired_archives(
    catalog: CatalogReader, archive: Archive, now: float, keep: float | None, keep_size: int | None
) -> list[ExpiredArchive]:
    """The archives that are older than `keep` seconds, and the oldest ones beyond a total of `keep_size` bytes."""
    if keep is None and keep_size is None:
        return []
    logs: defaultdict[str, set[str]] = defaultdict(set)
    files: dict[str, set[str]] = {}
    offsets = {path: offset for path, (offset, _) in catalog.offsets().items()}
    goes_on: set[str] = set()
    for path, parts in catalog.archived().items():
        files[path] = {part.file for part in parts}
        for file in files[path]:
            logs[file].add(path)
        if offsets.get(path, 0) > archived_size(parts):
            goes_on.add(path)
    sizes: dict[str, int] = {}
    for file in archive.files():
        with suppress(SourceError):
            sizes[file] = archive.size(file)
    oldest_first = sorted(sizes, key=lambda file: (_day_of(file), file))
    chosen = {file for file in oldest_first if keep is not None and _day_end(file) + keep <= now}
    if keep_size is not None:
        left = sum(size for file, size in sizes.items() if file not in chosen)
        for file in oldest_first:
            if left <= keep_size:
                break
            if file not in chosen:
                chosen.add(file)
                left -= sizes[file]
    while stays := {
        file for file in chosen if any(path in goes_on or not files[path] <= chosen for path in logs.get(file, ()))
    }:
        chosen -= stays
    return [
        ExpiredArchive(file, sizes[file], tuple(sorted(logs.get(file, ())))) for file in oldest_first if file in chosen
    ]


def _day_of(file: str) -> str:
    """The day of an archive: the folder of a session, the end of the name of a folder's archive. Not one that the
    session's own name contains."""
    days = _DAY.findall(file.split("/")[1])
    return days[-1] if days else "9999-12-31"


def _day_end(file: str) -> float:
    """When the day of an archive was over, in seconds since 1970."""
    try:
        return (datetime.fromisoformat(_day_of(file)).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()
    except (ValueError, OverflowError):
        return float("inf")
