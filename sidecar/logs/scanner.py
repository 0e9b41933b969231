"""What there is: every file below the root that belongs to a source, with its status. The scan is the truth.

Events from the watcher are only hints; a scan finds what they missed. How often one runs adapts to what the last one
found and cost.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sidecar.config.settings import Settings, Source
from sidecar.fs import to_text


class FoundFile(NamedTuple):
    """A file that a source claims."""

    path: str
    source: Source
    status: os.stat_result


@dataclass(slots=True)
class Scan:
    """One walk over the folders that sources may lie in. Iterate it once; then `failed` and `passed_over` are full."""

    settings: Settings
    failed: dict[str, str] = field(default_factory=dict)
    """Folders that could not be read, and why: nothing that lies below them may be taken for gone."""
    passed_over: dict[str, str] = field(default_factory=dict)
    """Names that look like a log and are none, and what they are instead."""

    def __iter__(self) -> Iterator[FoundFile]:
        root = self.settings.root
        if not root.is_dir():
            self.failed[""] = f"{root} is no folder"
            return
        for prefix in self.settings.glob_prefixes:
            if not Path(os.path.realpath(root / prefix)).is_relative_to(os.path.realpath(root)):
                self.failed[prefix] = "it is a link out of the root"
                continue
            yield from self._walk(prefix)

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
            for entry in listed:
                path = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if path != "index":
                            folders.append(path)
                        continue
                    source = self.settings.source_for(path)
                    if source is None:
                        continue
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self.failed[to_text(path)] = error.strerror or str(error)
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield FoundFile(to_text(path), source, status)
                else:
                    self.passed_over[to_text(path)] = _kind(status.st_mode)


def _kind(mode: int) -> str:
    for test, name in ((stat.S_ISLNK, "link"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket")):
        if test(mode):
            return name
    return "device"


# ---- when to scan

FILES_PER_TURN = 2_000
"""Files that are looked at in one turn."""
POLL_INTERVAL = 0.5
"""Seconds between scans where there are no events."""
MAX_SCAN_SHARE = 0.005
"""Of the time, spent scanning at most, however many files there are."""


class FinishedScan(NamedTuple):
    """A scan that came to its end."""

    seen: set[str]
    """The paths of all files that are there."""
    scan: Scan


class ScanSchedule:
    """The scans of one sidecar. Whoever reads hints asks for more of them than are due by themselves."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.due = 0.0
        """When the next one is to begin; it may have begun."""
        self._found: Iterator[FoundFile] | None = None
        self._scan = Scan(settings)
        self._seen: set[str] = set()
        self._spent = 0.0
        self._is_asked = False
        """Since the present scan began, which may have passed already what is meant."""
        self._asked_due = 0.0

    @property
    def is_on(self) -> bool:
        """A scan has begun and has not come to its end."""
        return self._found is not None

    def ask(self) -> None:
        """Something happened of which only a scan can tell what."""
        self.due = min(self.due, self._asked_due)
        self._is_asked = True

    def begin_by(self, moment: float) -> None:
        """Let the next one begin at this moment at the latest."""
        self.due = min(self.due, moment)

    def begin_anew(self) -> None:
        """Forget the present one, and begin another at once."""
        self._found = None
        self.due = 0.0

    def clock_stepped_back(self, seconds: float) -> None:
        """What was due at a moment is due as long from now as it was before."""
        self.due -= seconds
        self._asked_due -= seconds

    def begins(self, now: float) -> bool:
        """Begin one if it is due."""
        if self.is_on or now < self.due:
            return False
        self._scan = Scan(self._settings)
        self._found = iter(self._scan)
        self._seen = set()
        self._spent = 0.0
        self._is_asked = False
        return True

    def turn(self, differs: Callable[[FoundFile], bool]) -> tuple[list[FoundFile], FinishedScan | None]:
        """A slice of the present scan: the files that differ, and where it has come to its end, what it was."""
        if self._found is None:
            return [], None
        began = time.perf_counter()
        found = list(islice(self._found, FILES_PER_TURN))
        self._seen.update([one.path for one in found])
        differing = [one for one in found if differs(one)]
        self._spent += time.perf_counter() - began
        if len(found) == FILES_PER_TURN:
            return differing, None
        self._found = None
        return differing, FinishedScan(self._seen, self._scan)

    def plan(self, now: float, *, polling: bool, is_well: bool) -> None:
        """Say when the next one is due, after the last: at a steady interval, a short one where there are no events, a
        longer one where a scan takes long and nothing is wrong."""
        # No more than half of the time for scans, though every one of them be asked for.
        self._asked_due = now + self._spent
        interval = self._settings.scan_interval
        if polling:
            interval = max(min(POLL_INTERVAL, interval), self._spent * 10)
        else:
            interval = max(interval, self._spent / MAX_SCAN_SHARE if is_well else self._spent * 10)
        self.due = self._asked_due if self._is_asked else now + interval
