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
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sidecar.bulk.backlog import Backlog
from sidecar.config.settings import Settings
from sidecar.errors import IndexDamaged, SidecarError, SourceError
from sidecar.fs import to_os, to_text
from sidecar.indexer.index_writer import IndexWriter
from sidecar.indexer.tamper import FileStates
from sidecar.ingest.reader import read_next
from sidecar.ingest.source import Batch
from sidecar.logs.archive_file import Archive
from sidecar.logs.scanner import FinishedScan, ScanSchedule
from sidecar.logs.watcher import Watcher
from sidecar.store.connection import DATABASE_ERRORS, is_damage, root_cause

from .heartbeat import Heartbeat
from .requests import RequestInbox

MAX_BATCH_ROWS = 10_000
"""A batch is written when it has so many rows, or when no file is dirty any more,"""

MAX_BATCH_BYTES = 32 << 20
"""or when so many bytes of log have been read for it: a row may name a million agents."""

MAX_UNSAVED_SOURCES = 2_000
"""Sources looked at since the last checkpoint, at which the next one does not wait for its time."""

DRAIN_SECONDS = 1.0
"""Seconds that are left, when it is asked to stop, to take in what has been written until then."""

BACKLOG_WAIT = 0.02
"""Seconds to wait for what others read, where nothing else is to be done."""

RETRY_DELAY = 1.0
"""Seconds to wait after something failed."""

_FAILURES = (OSError, *DATABASE_ERRORS)


@dataclass(slots=True)
class Totals:
    """What was done since the start."""

    entries: int = 0
    bytes: int = 0
    found: int = 0
    """Bytes that scans found to be read."""
    scans: int = 0


class Sidecar:
    """One sidecar on one root, whose lock the caller holds. Open it, `step` or `run` it, close it."""

    def __init__(self, settings: Settings, *, watch: bool = True, voice: Heartbeat | None = None) -> None:
        self.settings = settings
        self.totals = Totals()
        self.trouble: dict[str, str] = {}
        """What is wrong now, by the path or the part that it concerns."""
        self._told: dict[str, str] = {}
        self._watch = watch
        self._voice = voice or Heartbeat(settings.index_folder)
        self._has_own_voice = voice is None
        self._watcher: Watcher | None = None
        self._ledger: IndexWriter | None = None
        """None before it is opened, and after something failed until it could be opened again."""
        self.left: FileStates = {}
        """Until they are opened: how files were found by a check, or left by an earlier writer."""
        self._retry_at = 0.0
        self._scans = ScanSchedule(settings)
        self._next_checkpoint = 0.0
        self._next_check = 0.0
        self._now = 0.0
        """The latest moment that was handed in."""
        self._queue: OrderedDict[str, None] = OrderedDict()
        self._crowd = Backlog(settings)
        self._archive = Archive(settings.archive)
        self._requests = RequestInbox(settings.index_folder)
        self._unsettled: dict[str, float] = {}
        """Event files that do not parse, and when to look at them again."""

    # ---- opening and closing

    def open(self) -> None:
        """Open the index, take back what no checkpoint covers, and begin to watch. Raises IndexUnavailable."""
        self._crowd.clear()
        try:
            self._ledger = IndexWriter(self.settings, self.left)
        except _FAILURES as error:
            self._fail(error, 0.0)
        if self._watch:
            settings = self.settings
            self._watcher = Watcher(settings.root, settings.glob_prefixes, polling=settings.polling)
        self._tell()

    def close(self) -> None:
        """Checkpoint, and leave the index as one that a reader can open anywhere."""
        try:
            if self._ledger is not None:
                self._ledger.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop without saving: what no checkpoint covers is taken back at the next start."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        self._crowd.close()
        if self._ledger is not None:
            with suppress(IndexDamaged):  # the next start checks what was not closed in good order
                self._ledger.abandon()
            self._ledger = None
        self._archive.close()
        if self._has_own_voice:
            self._voice.clear()

    # ---- the loop

    def run(self, stop: Callable[[], bool], progress: Callable[[Totals, int], None] | None = None) -> None:
        """Step until `stop()`, then take in what is there by then.

        `progress` is called with the totals and the number of files still to look at.
        """
        while not stop():
            now = time.time()
            busy = self.step(now)
            if progress is not None:
                progress(self.totals, self._waiting)
            if not busy and self._watcher is not None:
                self._watcher.hints.wait(min(1.0, max(0.0, self._due() - now)))
        self._drain()

    def _drain(self) -> None:
        """One last scan, because a hint may still be on its way, and what it finds."""
        self._scans.begin_anew()
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.step(time.time()) and time.monotonic() < deadline:
            pass

    def wake(self) -> None:
        """Let a waiting `run` look at its stop condition. From any thread, but not from a signal handler: that may have
        interrupted the wait in the very lock that this takes."""
        if self._watcher is not None:
            self._watcher.hints.wake()

    def run_once(self, progress: Callable[[Totals, int], None] | None = None) -> None:
        """Index what is there now, and return. Raises what went wrong, after trying it twice."""
        self._scans.begin_by(0.0)
        failures = 0
        while True:
            busy = self.step(time.time())
            if self._ledger is None:
                failures += 1
                if failures == 3:
                    raise SidecarError(f"could not index: {'; '.join(self.trouble.values())}")
                self._retry_at = 0.0
            elif not busy:
                break
            if progress is not None:
                progress(self.totals, self._waiting)
        self._ledger.checkpoint()

    def step(self, now: float) -> bool:
        """One turn at the time `now` (seconds since 1970); true where more is waiting to be done at once."""
        if now < self._now:
            self._clock_stepped_back(self._now - now)
        self._now = now
        if now < self._retry_at:
            return False
        try:
            ledger = self._opened_again()
            self._check_if_due(ledger, now)
            self._take_hints(ledger)
            self._go_on_scanning(ledger, now)
            self._go_on_with_crowd(ledger)
            batches = self._look_at_dirty(ledger, now)
            ledger.write(batches)
            self.totals.entries += sum(len(batch.rows) for batch in batches)
            self._checkpoint_if_due(ledger, now)
            more = self._requests.turn(ledger) or self._waiting > 0 or self._scans.is_on
            if "index" in self.trouble and not more:  # for all that it goes on, not before: a scan follows a failure
                del self.trouble["index"]
            if self.trouble != self._told:
                self._tell()
        except _FAILURES as error:
            self._fail(error, now)
            return False
        return more

    def _clock_stepped_back(self, seconds: float) -> None:
        """What was to be done at a moment is to be done as long from now as it was before."""
        self._retry_at -= seconds
        self._scans.clock_stepped_back(seconds)
        self._next_checkpoint -= seconds
        self._next_check -= seconds
        self._unsettled = {path: due - seconds for path, due in self._unsettled.items()}

    def _due(self) -> float:
        """When there will be something to do, if nothing happens."""
        if self._ledger is None:
            return self._retry_at
        times = [self._scans.due, self._next_check, self._requests.due(), *self._unsettled.values()]
        if self._ledger.unsaved:
            times.append(self._next_checkpoint)
        return min(times)

    # ---- what may have changed

    @property
    def _waiting(self) -> int:
        """Files to look at."""
        return len(self._queue) + len(self._crowd)

    def _mark(self, ledger: IndexWriter, path: str) -> None:
        """This file is to be looked at."""
        if path in ledger.known:
            self._queue[path] = None
        else:
            self._crowd.add(path)

    def _go_on_with_crowd(self, ledger: IndexWriter) -> None:
        is_scanning = self._scans.is_on
        brought = self._crowd.turn(ledger, 0.0 if self._queue or is_scanning else BACKLOG_WAIT, is_scanning=is_scanning)
        self._queue.update(dict.fromkeys(brought.again))
        self.totals.entries += brought.entries
        self.totals.bytes += brought.bytes

    def _take_hints(self, ledger: IndexWriter) -> None:
        if self._watcher is None:
            return
        self._watcher.check()
        paths, scan = self._watcher.hints.fetch()
        root = os.fspath(self.settings.root) + os.sep
        for path in paths:
            if path.startswith(root):
                relative = path[len(root) :]
                if self.settings.source_for(relative) is not None:
                    self._mark(ledger, to_text(relative))
        if scan:
            self._scans.ask()

    def _go_on_scanning(self, ledger: IndexWriter, now: float) -> None:
        if self._scans.begins(now) and self._watcher is not None:
            self._watcher.refresh()
        differing, scanned = self._scans.turn(ledger.differs)
        for found in differing:
            if not self._crowd.is_out(found.path):
                self._mark(ledger, found.path)
                self.totals.found += max(0, found.status.st_size - ledger.size(found.path))
        if scanned is not None:
            self._end_scan(ledger, scanned, now)
        for path in [path for path, due in self._unsettled.items() if due <= now]:
            del self._unsettled[path]
            self._queue[path] = None

    def _end_scan(self, ledger: IndexWriter, scanned: FinishedScan, now: float) -> None:
        """Note what is gone, and what is wrong and what is not any more."""
        seen, scan = scanned
        for path in ledger.unseen_since_scan(seen):
            if scan.covers(path):
                self._queue[path] = None  # the look will say whether it is gone
        for path in [path for path in self.trouble if path not in seen and path != "index"]:
            if ledger.is_away(path):  # else the look will say
                del self.trouble[path]
        for folder, why in scan.failed.items():
            self.trouble[folder or "root"] = f"{folder or self.settings.root}: {why}"
        self.totals.scans += 1
        polling = self._watcher is not None and self._watcher.mode == "polling"
        self._scans.plan(now, polling=polling, is_well=not self.trouble)
        self._tell()

    # ---- looking and saving

    def _look_at_dirty(self, ledger: IndexWriter, now: float) -> list[Batch]:
        """Look at each dirty file, one chunk of it, until nothing is dirty or a batch is full."""
        batches: list[Batch] = []
        rows = 0
        enough = self.totals.bytes + MAX_BATCH_BYTES
        for _ in range(len(self._queue)):
            path, _ = self._queue.popitem(last=False)
            if self._crowd.is_out(path):  # two must not read it at once
                self._crowd.add(path)
                continue
            if path not in self.trouble and ledger.is_as_seen(path):
                continue
            try:
                batch, more = self._look_at(ledger, path, now)
            except FileNotFoundError:
                self.trouble.pop(path, None)
                if self.settings.root.is_dir():  # else all is out of reach, and nothing known to be gone
                    ledger.vanished(path)
                continue
            except (OSError, SourceError) as error:
                if path not in ledger.known and not self._is_file(path):
                    continue  # a link, pipe or socket that never was a log is passed over, as by a scan
                self.trouble[path] = f"{path}: {getattr(error, 'strerror', None) or error}"
                self._scans.begin_by(now + self.settings.scan_interval)
                continue
            self.trouble.pop(path, None)
            if more:
                self._queue[path] = None
            if batch is not None:
                batches.append(batch)
                rows += len(batch.rows)
                if rows >= MAX_BATCH_ROWS or self.totals.bytes >= enough:
                    break
        return batches

    def _is_file(self, path: str) -> bool:
        with suppress(OSError):
            return stat.S_ISREG(os.lstat(self.settings.root / to_os(path)).st_mode)
        return True  # it cannot be told now

    def _look_at(self, ledger: IndexWriter, path: str, now: float) -> tuple[Batch | None, bool]:
        """What one look at a file brought, and whether there is more of it."""
        progress = ledger.progress(path)
        if progress is None:
            return None, False
        before = progress.cursor.offset
        seen = read_next(progress, self.settings.root, self.settings.max_line_bytes, now, archive=self._archive)
        if seen.changed:
            ledger.begin_again(progress, keeps_time=seen.is_restored)
            return None, True
        if seen.retry_in is not None:
            self._unsettled[path] = now + seen.retry_in
        self.totals.bytes += progress.cursor.offset - before
        ledger.seen(progress, now)
        return seen.batch, seen.more

    def _checkpoint_if_due(self, ledger: IndexWriter, now: float) -> None:
        if ledger.unsaved and (now >= self._next_checkpoint or ledger.unsaved >= MAX_UNSAVED_SOURCES):
            ledger.checkpoint()
            self._next_checkpoint = now + self.settings.checkpoint_interval

    def _check_if_due(self, ledger: IndexWriter, now: float) -> None:
        """Look whether somebody else has touched the index; steadily, because scans may be rare."""
        if now >= self._next_check:
            ledger.check()
            self._next_check = now + self.settings.scan_interval

    # ---- trouble

    def _fail(self, error: Exception, now: float) -> None:
        """Drop what is in memory; the next turn begins again from what was saved."""
        if is_damage(error):
            raise IndexDamaged(f"{self.settings.index_folder}: {root_cause(error)}") from error
        self.trouble["index"] = f"index: {root_cause(error)}"
        self._retry_at = now + RETRY_DELAY
        self._requests.begin_again()
        self._crowd.close()
        if self._ledger is not None:
            with suppress(*_FAILURES):
                self._ledger.abandon()
            self._ledger = None
        self._tell()

    def _opened_again(self) -> IndexWriter:
        if self._ledger is None:
            self._ledger = IndexWriter(self.settings, self.left)
            self._scans.begin_anew()
        return self._ledger

    def _tell(self) -> None:
        """Say to other processes how this one is doing."""
        self._told = dict(self.trouble)
        watcher = self._watcher
        if watcher is None:
            return
        self._voice.report(watcher.mode, watcher.why_polling, list(self.trouble.values()))
