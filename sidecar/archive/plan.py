"""What is to be archived, where it goes, and why the rest stays: decided from the catalog and a scan, nothing written.

A session goes when the registry has it as completed, by itself, to `sessions/<day>/`, the UTC day of its last record.
Event files and streams go when they lie in a folder named after a day that is over, all of a folder into one
`events/events_<day>.tar.zst`. Streams elsewhere stay: nothing says that they are at their end.

Whatever goes has been unchanged for the age, is indexed to its last byte, ends with a line end, and is held by nobody.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from sidecar.config.settings import Settings
from sidecar.logs.scan import Found, Scan
from sidecar.logs.tail import identity
from sidecar.paths import split_path, to_os
from sidecar.query.catalog_archive import Standing
from sidecar.query.filter import day_of
from sidecar.query.reader import Catalog
from sidecar.records import Part, archived_size

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
    parts: tuple[Part, ...]
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


class Kept(NamedTuple):
    """A log that stays where it is, and why."""

    path: str
    why: str


@dataclass(slots=True)
class Plan:
    """What goes, what stays, and what a run before has archived and not deleted."""

    targets: list[Target]
    kept: list[Kept]
    leftovers: list[Candidate]


def plan(settings: Settings, catalog: Catalog, age: float, now: float) -> Plan:
    """Decide for every log below the root. `age` in seconds."""
    known = {one.path: one for one in catalog.standing()}
    archived = catalog.archived()
    completed = {session.session_id for session in catalog.sessions("completed")}
    kept: list[Kept] = []
    leftovers: list[Candidate] = []
    sessions: list[Target] = []
    folders: defaultdict[str, list[tuple[Candidate, str | None]]] = defaultdict(list)
    scan = Scan(settings)
    for found in sorted(scan):
        one, parts = known.get(found.path), archived.get(found.path, ())
        why = _why_not(settings, found, one, parts, age, now)
        if one is None:
            kept.append(Kept(found.path, NEVER_INDEXED))
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
            kept.append(Kept(found.path, why))
    kept += [Kept(path, f"{UNREADABLE}: {why}") for path, why in scan.failed.items()]
    targets = [*sessions, *_of_folders(folders, kept)]
    return Plan([one for one in targets if one.logs], sorted(kept), leftovers)


def _candidate(found: Found, one: Standing, parts: tuple[Part, ...]) -> Candidate:
    status = found.status
    looks = (*identity(status), status.st_size, status.st_mtime_ns)
    lines = one.lines - sum(part.lines for part in parts)
    return Candidate(
        found.path, looks, status.st_size, lines, one.entries, one.first_mtime, parts, found.source.layout
    )


def _why_not(
    settings: Settings, found: Found, one: Standing | None, parts: tuple[Part, ...], age: float, now: float
) -> str | None:
    """Why a log has to stay, whatever it is; None for no reason."""
    if one is None:
        return NEVER_INDEXED
    status, path = found.status, settings.root / to_os(found.path)
    rest = status.st_size - (one.offset - archived_size(parts))
    if rest:
        is_indexed = rest > 0 and found.source.layout != "file" and not _has_line_end(path, status.st_size - rest)
        return WAITING if is_indexed else NOT_TO_ITS_END
    if not status.st_size:
        return EMPTY
    if (*identity(status), status.st_size, status.st_mtime_ns) != one.looks:
        return NOT_TO_ITS_END
    if now - status.st_mtime < age:
        return YOUNG
    if found.source.layout == "session" and (writer := writer_of(path.with_name(f"{path.name}.lock"))) is not None:
        return f"held by a writer: {writer}" if writer else "held by a writer"
    return why_in_use(path)


def _has_line_end(path: Path, offset: int) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(1 << 20):
                if b"\n" in chunk:
                    return True
    except OSError:
        return True
    return False


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


def _of_a_session(catalog: Catalog, log: Candidate) -> Target:
    moment = catalog.last_timestamp(log.path)
    day = day_of(log.looks[3] / 1e9 if moment is None else moment)
    _, stem, suffix = split_path(to_os(log.path))
    return Target(f"sessions/{day}", safe(stem, log.path), f"{suffix}.zst", [log])


def _of_folders(folders: Mapping[str, list[tuple[Candidate, str | None]]], kept: list[Kept]) -> Iterator[Target]:
    """One archive for each folder; a folder in which anything has changed a short time ago waits as a whole."""
    for folder, logs in sorted(folders.items()):
        above, _, day = folder.rpartition("/")
        is_young = any(why == YOUNG for _, why in logs)
        target = Target("events", safe(f"{above.replace('/', '-') or 'logs'}_{day}", folder), ".tar.zst")
        for log, why in logs:
            reason = why or (YOUNG if is_young else None)
            if reason is None:
                target.logs.append(log)
            else:
                kept.append(Kept(log.path, reason))
        yield target


def safe(name: str, path: str) -> str:
    """A name for an archive; one that every file system takes, where the log's own might not be."""
    try:
        if len(name.encode()) <= _LONGEST_NAME and to_os(path) == path and name not in ("", ".", ".."):
            return name
    except UnicodeEncodeError:
        pass
    return f"~{blake2b(os.fsencode(to_os(path)), digest_size=8).hexdigest()}"


def total(targets: Iterable[Target]) -> int:
    """Bytes of log in some targets."""
    return sum(target.bytes for target in targets)
