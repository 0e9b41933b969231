"""Find every file below the root that belongs to a source, and decide when to look again.

Events from the watcher are only hints; a scan finds what they missed. The interval between scans depends on what the
last one found and how long it took.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sidecar import globs
from sidecar.config.settings import Settings, Source
from sidecar.fs import to_text

COMPRESSED = frozenset(("gz", "bz2", "xz", "zst", "lz4", "lzma", "Z", "zip"))
"""The suffixes that people and rotation tools give to compressed logs."""


class PartFile(NamedTuple):
    """A file with an earlier part of a rotated log."""

    path: str
    status: os.stat_result


class FoundFile(NamedTuple):
    """A file that belongs to a source."""

    path: str
    source: Source
    status: os.stat_result
    parts: tuple[PartFile, ...] = ()
    """The files of its earlier parts, the oldest first."""


@dataclass(slots=True)
class Scan:
    """One walk through the folders of all sources. Iterate over it once; `failed` and `passed_over` are complete after
    that."""

    settings: Settings
    failed: dict[str, str] = field(default_factory=dict)
    """The folders that could not be read, and why. No file below them may be considered gone."""
    passed_over: dict[str, str] = field(default_factory=dict)
    """What is not read although its name is that of a log or of logs, and what it is: links, pipes and the like, linked
    folders, and compressed logs. By path."""
    matched: set[str] = field(default_factory=set)
    """The names of the sources that at least one file belongs to."""

    def __iter__(self) -> Iterator[FoundFile]:
        root = self.settings.root
        if not root.is_dir():
            self.failed[""] = "it is not a directory" if os.path.lexists(root) else "it does not exist"
            return
        for prefix in self.settings.glob_prefixes:
            if not Path(os.path.realpath(root / prefix)).is_relative_to(os.path.realpath(root)):
                self.failed[to_text(prefix)] = "it is a link that leads out of the root"
                continue
            for found in self._walk(prefix):
                self.matched.add(found.source.name)
                yield found

    def unmatched(self) -> list[Source]:
        """The sources whose glob matches no file."""
        return [source for source in self.settings.sources if source.name not in self.matched]

    @property
    def skipped_paths(self) -> int:
        """The number of paths that were passed over, plus that of globs that match nothing."""
        return len(self.passed_over) + len(self.unmatched())

    def covers(self, path: str) -> bool:
        """Whether the absence of this file from the scan means that it is gone."""
        return not any(path.startswith(f"{folder}/" if folder else "") for folder in self.failed)

    def _walk(self, start: str) -> Iterator[FoundFile]:
        root = os.fspath(self.settings.root)
        folders = [start]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(os.path.join(root, folder)) as entries:
                    listed = list(entries)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.failed[to_text(folder)] = error.strerror or str(error)
                continue
            parts = self._parts(folder, listed)
            are_parts = {path for of_log in parts.values() for path, _ in of_log}
            for entry in listed:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if are_parts and path in are_parts:
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if path != self.settings.index_path:
                            folders.append(path)
                        continue
                    source = self.settings.source_for(path)
                    if source is None:
                        if what := self._not_read(entry, path):
                            self.passed_over[to_text(path)] = what
                        continue
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self.failed[to_text(path)] = error.strerror or str(error)
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield FoundFile(to_text(path), source, status, tuple(self._looked(parts.get(path, ()))))
                else:
                    self.passed_over[to_text(path)] = _kind(status.st_mode)

    def _parts(self, folder: str, listed: list[os.DirEntry[str]]) -> dict[str, list[tuple[str, os.DirEntry[str]]]]:
        """For each log of a folder that has earlier parts, their paths and entries, the oldest first."""
        settings, search = self.settings, self.settings.may_be_part.search
        before = f"{folder}/" if folder else ""
        perhaps = [entry for entry in listed if search(entry.name) and entry.is_file(follow_symlinks=False)]
        if not perhaps:
            return {}
        there = {before + entry.name for entry in listed if entry.is_file(follow_symlinks=False)}
        entries = {before + entry.name: entry for entry in perhaps}
        found: dict[str, list[str]] = {}
        for path in entries:
            log = settings.log_of_part(path, there)
            if log is not None:
                found.setdefault(log, []).append(path)
        return {
            log: [(path, entries[path]) for path in settings.in_order_of_age(log, paths)]
            for log, paths in found.items()
        }

    def _looked(self, parts: Iterable[tuple[str, os.DirEntry[str]]]) -> Iterator[PartFile]:
        for path, entry in parts:
            try:
                yield PartFile(to_text(path), entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue
            except OSError as error:
                self.failed[to_text(path)] = error.strerror or str(error)

    def _not_read(self, entry: os.DirEntry[str], path: str) -> str:
        """What an entry is if it belongs to no source but may still hold logs; empty for any other."""
        if entry.is_symlink():
            is_folder = entry.is_dir() and any(globs.may_lie_below(one.glob, path) for one in self.settings.sources)
            return "linked folder" if is_folder else ""
        plain, dot, suffix = path.rpartition(".")
        if suffix in COMPRESSED and (self.settings.source_for(plain) is not None or self.settings.logs_of_part(plain)):
            return f"compressed log, {dot}{suffix}"
        return ""


def _kind(mode: int) -> str:
    for test, name in ((stat.S_ISLNK, "link"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket")):
        if test(mode):
            return name
    return "device"


# ---- when to scan

FILES_PER_TURN = 2_000
"""Files examined per turn."""
POLL_INTERVAL = 0.5
"""Seconds between scans while there are no events."""
MAX_SCAN_SHARE = 0.005
"""The largest share of the time that may be spent scanning, however many files there are."""


class FinishedScan(NamedTuple):
    """A completed scan."""

    seen: set[str]
    """The paths of all files found."""
    scan: Scan


class ScanSchedule:
    """When one sidecar scans: at intervals, and when a hint requests it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.due = 0.0
        """When the next scan is to begin, in seconds since 1970; it may have begun already."""
        self._found: Iterator[FoundFile] | None = None
        self._scan = Scan(settings)
        self._seen: set[str] = set()
        self._spent = 0.0
        self._is_requested = False
        """Whether a scan was requested after the current one began, which may have passed the change already."""
        self._request_due = 0.0

    @property
    def is_on(self) -> bool:
        """Whether a scan is in progress."""
        return self._found is not None

    def ask(self) -> None:
        """Request a scan as soon as one is allowed: something changed, and only a scan can find out what."""
        self.due = min(self.due, self._request_due)
        self._is_requested = True

    def begin_by(self, moment: float) -> None:
        """Make the next scan begin no later than this moment, in seconds since 1970."""
        self.due = min(self.due, moment)

    def restart(self) -> None:
        """Abandon the current scan, and make another one due at once."""
        self._found = None
        self.due = 0.0

    def clock_stepped_back(self, seconds: float) -> None:
        """Move the due times back with the clock, so that the time left until them stays the same."""
        self.due -= seconds
        self._request_due -= seconds

    def begins(self, now: float) -> bool:
        """Begin a scan if one is due. Returns whether one begins."""
        if self.is_on or now < self.due:
            return False
        self._scan = Scan(self._settings)
        self._found = iter(self._scan)
        self._seen = set()
        self._spent = 0.0
        self._is_requested = False
        return True

    def turn(self, differs: Callable[[FoundFile], bool]) -> tuple[list[FoundFile], FinishedScan | None]:
        """Continue the current scan with up to `FILES_PER_TURN` files. Returns those that `differs` holds for, and the
        scan itself once it is complete."""
        if self._found is None:
            return [], None
        began = time.perf_counter()
        found = list(islice(self._found, FILES_PER_TURN))
        self._seen.update([one.path for one in found])
        self._seen.update([part.path for one in found for part in one.parts])
        differing = [one for one in found if differs(one)]
        self._spent += time.perf_counter() - began
        if len(found) == FILES_PER_TURN:
            return differing, None
        self._found = None
        return differing, FinishedScan(self._seen, self._scan)

    def plan(self, now: float, *, polling: bool, is_well: bool) -> None:
        """Set when the next scan is due, after the last one: at the configured interval, sooner while polling, and
        later if a scan takes long and nothing is wrong (`is_well`)."""
        # At most half of the time goes to scans, even if every one of them is requested.
        self._request_due = now + self._spent
        interval = self._settings.scan_interval
        if polling:
            interval = max(min(POLL_INTERVAL, interval), self._spent * 10)
        else:
            interval = max(interval, self._spent / MAX_SCAN_SHARE if is_well else self._spent * 10)
        self.due = self._request_due if self._is_requested else now + interval
