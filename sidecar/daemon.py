"""The wiring: watch -> tail -> parse -> derive -> index. `step(now)` is one turn, `run(stop)` repeats it.

One thread owns every file position and every write connection; only `Watcher` has threads of its own, and they do
nothing but mark paths. Time comes in as an argument, so that a test needs neither thread nor sleep.

The order of a turn is what keeps the promises:

1. look at dirty files and derive rows: nothing is saved yet, and a crash loses nothing that the log does not have;
2. commit the rows, day by day: queries see them, the saved offsets are behind, and the next start takes these rows
   back and makes them again (`index.py`);
3. at a checkpoint, sync the daily files, then save offsets and states in one synced transaction.

When a write fails (a full disk, a lock held too long), the fold has run ahead of the rows. Then everything in memory is
dropped and read again from the catalog, as after a crash: there is one way to recover, and it is exercised always.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from peewee import PeeweeException

from . import beacon
from .catalog import Catalog, Known, to_save
from .config import Settings
from .errors import IndexDamaged, SidecarError
from .fold import Batch, Progress
from .index import DailyIndex
from .paths import to_os, to_text
from .scan import Found, Scan
from .schema import is_damage
from .tail import NotAFile
from .visit import visit
from .watch import Watcher

BATCH_ROWS = 10_000
"""A batch is written when it has so many rows, or when no file is dirty any more."""

HOT_FILES = 512
"""Sources kept in memory with their states; the others are loaded from the catalog when they change."""

UNSAVED_FILES = 2_000
"""Sources looked at since the last checkpoint, at which the next one does not wait for its time."""

POLL_INTERVAL = 0.5
"""Seconds between scans where there are no events."""

SCAN_SHARE = 0.005
"""Of the time, spent scanning at most, however many files there are."""

SLICE = 2_000
"""Files that a scan looks at in one turn, so that it delays no fresh line for long."""

RETRY = 1.0
"""Seconds to wait after something failed."""

_FAILURES = (OSError, PeeweeException)


@dataclass(slots=True)
class Totals:
    """What was done since the start."""

    entries: int = 0
    bytes: int = 0
    scans: int = 0


class Sidecar:
    """One sidecar on one root, whose lock the caller holds. Open it, `step` or `run` it, close it."""

    def __init__(self, settings: Settings, *, watch: bool = True) -> None:
        self.settings = settings
        self.totals = Totals()
        self.trouble: dict[str, str] = {}
        """What is wrong now, by the path or the part that it concerns."""
        self._watch = watch
        self._watcher: Watcher | None = None
        self._retry_at = 0.0
        self._next_scan = 0.0
        self._next_checkpoint = 0.0
        self._scan: Iterator[None] | None = None
        self._queue: OrderedDict[str, None] = OrderedDict()
        self._unsettled: dict[str, float] = {}
        """Event files that do not parse, and when to look at them again."""

    # ---- opening and closing

    def open(self) -> None:
        """Open the index, take back what no checkpoint covers, and begin to watch. Raises IndexUnavailable."""
        self._open_index()
        if self._watch:
            settings = self.settings
            self._watcher = Watcher(settings.root, settings.glob_prefixes, polling=settings.polling)
        self._tell()

    def _open_index(self) -> None:
        folder = self.settings.index_folder
        self._catalog = Catalog(folder / "catalog.db")
        self._index = DailyIndex(folder / "daily")
        if self._catalog.fact("config") is None:
            self._catalog.note("config", self.settings.fingerprint)
        self._hot: OrderedDict[str, Progress] = OrderedDict()
        self._unsaved: dict[str, Progress] = {}
        """Sources that were looked at since the last checkpoint."""
        self._gone: set[str] = set()
        self._known: dict[str, Known] = dict(self._catalog.known())
        self._next_id = 1 + max((known.id for known in self._known.values()), default=0)
        self._index.recover(self._catalog.checkpoint, self._catalog.saved)
        for path in self._catalog.resetting():
            self._index.forget(path)

    def close(self) -> None:
        """Checkpoint, and leave the index as one that a reader can open anywhere."""
        if self._watcher is not None:
            self._watcher.close()
        try:
            if not self._retry_at:
                self._checkpoint()
            self._index.close()
            self._catalog.note("files", self._index.signs())
        finally:
            self._index.close()
            self._catalog.close()
            beacon.clear(self.settings.index_folder)

    # ---- the loop

    def run(self, stop: Callable[[], bool], progress: Callable[[Totals, int], None] | None = None) -> None:
        """Step until `stop()`; `progress` is called with the totals and the number of files still to look at."""
        while not stop():
            now = time.time()
            busy = self.step(now)
            if progress is not None:
                progress(self.totals, len(self._queue))
            if not busy and self._watcher is not None:
                self._watcher.hints.wait(min(1.0, max(0.0, self._due() - now)))

    def wake(self) -> None:
        """Let a waiting `run` look at its stop condition; may be called from a signal handler."""
        if self._watcher is not None:
            self._watcher.hints.wake()

    def run_once(self, progress: Callable[[Totals, int], None] | None = None, clock: Callable[[], float] = time.time) -> None:
        """Index what is there now, and return. Raises what went wrong, after trying it twice."""
        self._next_scan = 0.0
        failures = 0
        while True:
            busy = self.step(clock())
            if self._retry_at:
                failures += 1
                if failures == 3:
                    raise SidecarError(f"could not index: {'; '.join(self.trouble.values())}")
                self._retry_at = 0.0
                self._next_scan = 0.0
            elif not busy:
                break
            if progress is not None:
                progress(self.totals, len(self._queue))
        self._checkpoint()

    def step(self, now: float) -> bool:
        """One turn at the time `now` (seconds since 1970); true where more is waiting to be done at once."""
        if now < self._retry_at:
            return False
        try:
            if self._retry_at:
                self._recover()
            self._take_hints()
            self._go_on_scanning(now)
            self._write(self._look_at_dirty(now))
            self._checkpoint_if_due(now)
        except _FAILURES as error:
            self._fail(error, now)
            return False
        return bool(self._queue) or self._scan is not None

    def _due(self) -> float:
        """When there will be something to do, if nothing happens."""
        times = [self._next_scan, *self._unsettled.values()]
        if self._unsaved:
            times.append(self._next_checkpoint)
        if self._retry_at:
            times = [self._retry_at]
        return min(times)

    # ---- what may have changed

    def _take_hints(self) -> None:
        if self._watcher is None:
            return
        paths, scan = self._watcher.hints.fetch()
        root = os.fspath(self.settings.root) + os.sep
        for path in paths:
            if path.startswith(root):
                relative = path[len(root) :]
                if self.settings.source_for(relative) is not None:
                    self._queue[to_text(relative)] = None
        if scan:
            self._next_scan = 0.0

    def _go_on_scanning(self, now: float) -> None:
        if self._scan is None and now >= self._next_scan:
            if self._watcher is not None:
                self._watcher.refresh()
            self._scan = self._scanning(now)
        if self._scan is not None:
            next(self._scan, None)
        for path in [path for path, due in self._unsettled.items() if due <= now]:
            del self._unsettled[path]
            self._queue[path] = None

    def _scanning(self, now: float) -> Iterator[None]:
        """A full scan, in slices: marks what differs from what is known, and notes what is gone."""
        began = time.perf_counter()
        spent = 0.0
        scan = Scan(self.settings)
        seen: set[str] = set()
        for count, found in enumerate(scan, 1):
            seen.add(found.path)
            if self._differs(found):
                self._queue[found.path] = None
            if count % SLICE == 0:
                spent += time.perf_counter() - began
                yield
                began = time.perf_counter()
        for path, known in self._known.items():
            if not known.is_missing and path not in seen and path not in self._gone and scan.covers(path):
                self._queue[path] = None  # the look will say whether it is gone
        for path in [path for path in self.trouble if path not in seen and path != "index"]:
            del self.trouble[path]
        for folder, why in scan.failed.items():
            self.trouble[folder or "root"] = f"{folder or self.settings.root}: {why}"
        spent += time.perf_counter() - began
        self.totals.scans += 1
        self._next_scan = now + self._interval(spent)
        self._scan = None
        self._tell()

    def _interval(self, scan_seconds: float) -> float:
        """Seconds until the next scan: steady, short where there are no events, longer where a scan takes long."""
        polling = self._watcher is not None and self._watcher.mode == "polling"
        if polling:
            return max(min(POLL_INTERVAL, self.settings.scan_interval), scan_seconds * 10)
        return max(self.settings.scan_interval, scan_seconds / SCAN_SHARE)

    def _differs(self, found: Found) -> bool:
        known = self._known.get(found.path)
        if known is None or known.is_missing:
            return True
        status = found.status
        return (known.device, known.inode, known.size, known.mtime_ns) != (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
        )

    # ---- looking

    def _look_at_dirty(self, now: float) -> list[Batch]:
        """Look at each dirty file, one chunk of it, until nothing is dirty or a batch is full."""
        batches: list[Batch] = []
        rows = 0
        for _ in range(len(self._queue)):
            path, _ = self._queue.popitem(last=False)
            try:
                batch, more = self._look_at(path, now)
            except FileNotFoundError:
                self._vanished(path)
                continue
            except (OSError, NotAFile) as error:
                self.trouble[path] = f"{path}: {getattr(error, 'strerror', None) or error}"
                continue
            self.trouble.pop(path, None)
            if more:
                self._queue[path] = None
            if batch is not None:
                batches.append(batch)
                rows += len(batch.rows)
                if rows >= BATCH_ROWS:
                    break
        return batches

    def _look_at(self, path: str, now: float) -> tuple[Batch | None, bool]:
        """What one look at a file brought, and whether there is more of it."""
        progress = self._progress(path)
        if progress is None:
            return None, False
        before = progress.mark.offset
        seen = visit(progress, self.settings.root, self.settings.max_line_bytes, now)
        if seen.changed:
            self._begin_again(progress)
            return None, True
        if seen.again_in is not None:
            self._unsettled[path] = now + seen.again_in
        self.totals.bytes += progress.mark.offset - before
        self._unsaved[path] = progress
        self._gone.discard(path)
        self._known[path] = Known(progress.id, *progress.mark[:4], is_missing=False)
        return seen.batch, seen.more

    def _progress(self, path: str) -> Progress | None:
        """Everything known of a source, from memory, from the catalog, or new."""
        progress = self._hot.get(path)
        if progress is None:
            source = self.settings.source_for(to_os(path))
            if source is None:
                return None
            progress = self._catalog.load(path, source, lambda places: self._index.requests(path, places))
            if progress is None:
                progress = Progress(self._next_id, path, source)
                self._next_id += 1
            self._hot[path] = progress
        self._hot.move_to_end(path)
        return progress

    def _begin_again(self, progress: Progress) -> None:
        """The file is another one now: its old rows go, first in the catalog's word, then in fact."""
        if progress.path in self._known:
            self._catalog.begin_reset(progress)
            self._index.forget(progress.path)
        progress.first_mtime = None
        progress.begin_again()
        self._unsaved[progress.path] = progress

    def _vanished(self, path: str) -> None:
        """A file is gone: its rows stay, and it is marked. Only where the root is there can it be gone."""
        self.trouble.pop(path, None)
        known = self._known.get(path)
        if known is None or not self.settings.root.is_dir():
            return
        self._gone.add(path)
        self._known[path] = known._replace(is_missing=True)

    # ---- writing

    def _write(self, batches: list[Batch]) -> None:
        if not batches:
            return
        self._index.write(batches, self._catalog.checkpoint + 1)
        self.totals.entries += sum(len(batch.rows) for batch in batches)

    def _checkpoint_if_due(self, now: float) -> None:
        if now >= self._next_checkpoint or len(self._unsaved) >= UNSAVED_FILES:
            self._checkpoint()
            self._next_checkpoint = now + self.settings.checkpoint_interval

    def _checkpoint(self) -> None:
        """Make the rows durable, then save how far each file was read."""
        if not (self._unsaved or self._gone):
            return
        self._index.check_files()
        days = list(self._index.make_durable())
        self._catalog.save(map(to_save, self._unsaved.values()), days, self._gone)
        self._unsaved = {}
        self._gone = set()
        while len(self._hot) > HOT_FILES:
            self._hot.popitem(last=False)
        self.trouble.pop("index", None)

    # ---- trouble

    def _fail(self, error: Exception, now: float) -> None:
        if is_damage(error):
            raise IndexDamaged(f"{self.settings.index_folder}: {error}") from error
        self.trouble["index"] = f"index: {error}"
        self._retry_at = now + RETRY
        self._tell()

    def _recover(self) -> None:
        """Begin again from what was saved, as after a crash; `_retry_at` stays set while that fails."""
        self._index.close()
        self._catalog.close()
        self._open_index()
        self._retry_at = 0.0
        self._scan = None
        self._next_scan = 0.0

    def _tell(self) -> None:
        """Say to other processes how this one is doing."""
        watcher = self._watcher
        if watcher is None:
            return
        if not watcher.is_alive():
            self.trouble["watch"] = "the watcher's thread has died; every scan still finds what changes"
        beacon.tell(self.settings.index_folder, watcher.mode, watcher.why_polling, list(self.trouble.values()))
