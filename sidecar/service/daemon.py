"""The loop: watch -> tail -> parse -> derive -> index. `step(now)` is one turn, `run(stop)` repeats it.

One thread owns every file position and every write connection. Only `Watcher` has threads of its own, and they do
nothing but mark paths as changed. The time is an argument, so tests need neither threads nor sleeps.

No row is lost because of the order within a turn:

1. Read dirty files and derive rows. Nothing is saved yet, so a crash loses nothing that the log does not have.
2. Commit the rows, day by day. Queries see them, but the saved offsets lag behind. After a crash the next start deletes
   these rows and derives them again (`day_files.py`).
3. At a checkpoint, sync the daily files, and then save offsets and source states in one synced transaction.

When a write fails (a full disk, a lock held too long), the source states in memory are ahead of the rows. Everything in
memory is then dropped and loaded from the catalog again, as after a crash. So there is one way to recover, and it is
in use all the time.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from sidecar.bulk.backlog import Backlog
from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import IndexDamaged, SidecarError, SourceError, UnsafePath
from sidecar.fs import path_under
from sidecar.indexer.index_writer import IndexWriter
from sidecar.indexer.tamper import FileStates
from sidecar.ingest.reader import read_next, reason_for_change
from sidecar.ingest.source import Batch
from sidecar.logs.archive_file import Archive
from sidecar.logs.scanner import FinishedScan, FoundFile, ScanSchedule
from sidecar.logs.watcher import Watcher
from sidecar.store.connection import DATABASE_ERRORS, is_damage, root_cause

from .faults import Faults, index_fault
from .heartbeat import Heartbeat
from .requests import RequestInbox
from .rotation import Rotation
from .timers import Timers
from .totals import Totals

MAX_BATCH_ROWS = 10_000
"""From this many rows on a batch is written, even if more files are dirty."""

MAX_BATCH_BYTES = 32 << 20
"""From this many bytes of log on a batch is written, because a single row may name a million agents."""

MAX_UNSAVED_SOURCES = 2_000
"""From this many sources read since the last checkpoint on, the next one is made before it is due."""

DRAIN_SECONDS = 1.0
"""The longest time, in seconds, that is spent after a stop request on indexing what was written before it."""

BACKLOG_WAIT = 0.02
"""Seconds to wait for worker processes when there is nothing else to do."""

RETRY_DELAY = 1.0
"""Seconds to wait after a failure."""

_FAILURES = (OSError, *DATABASE_ERRORS)
_log = get_logger(__name__)


class Sidecar:
    """One sidecar on one root, whose lock the caller holds. `open` it, `step` or `run` it, then `close` it."""

    def __init__(self, settings: Settings, *, watch: bool = True, heartbeat: Heartbeat | None = None) -> None:
        self.settings = settings
        self.totals = Totals()
        self.faults = Faults(self._report)
        self.file_states: FileStates = {}
        """How a check found the index files that have not been opened yet, or how an earlier writer left them."""
        self._watch = watch
        self._heartbeat = heartbeat or Heartbeat(settings.index_folder)
        self._owns_heartbeat = heartbeat is None
        self._watcher: Watcher | None = None
        self._writer: IndexWriter | None = None
        """None before `open`, and after a failure until the index is open again."""
        self._timers = Timers()
        self._scans = ScanSchedule(settings)
        self._queue: OrderedDict[str, None] = OrderedDict()
        """The known sources that may have changed, in the order in which they will be read."""
        self._backlog = Backlog(settings)
        self._rotation = Rotation(settings, self.totals)
        self._archive = Archive(settings.archive)
        self._requests = RequestInbox(settings.index_folder)

    # ---- opening and closing

    def open(self) -> None:
        """Open the index, roll it back to its last checkpoint, and begin to watch. Raises IndexUnavailable."""
        self._backlog.clear()
        try:
            self._writer = IndexWriter(self.settings, self.file_states)
        except _FAILURES as error:
            self._fail(error, 0.0)
        if self._watch:
            settings = self.settings
            self._watcher = Watcher(settings.root, settings.glob_prefixes, polling=settings.polling)
        _log.info("started on %s, %s", self.settings.root, self._watch_mode())
        self.faults.report()

    def close(self) -> None:
        """Make a last checkpoint, and leave an index that a reader can open anywhere, even in a read-only folder."""
        try:
            if self._writer is not None:
                self._writer.close()
            _log.info("stopped on %s, %d entries indexed", self.settings.root, self.totals.entries)
        finally:
            self.abandon()

    def _watch_mode(self) -> str:
        if self._watcher is None:
            return "not watching"
        why = self._watcher.why_polling
        return f"watching by {self._watcher.mode}" + (f" ({why})" if why else "")

    def abandon(self) -> None:
        """Stop without saving: the next start rolls back to the last checkpoint."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        self._backlog.close()
        if self._writer is not None:
            with suppress(IndexDamaged):  # the next start checks every file that was not closed in good order
                self._writer.abandon()
            self._writer = None
        self._archive.close()
        if self._owns_heartbeat:
            self._heartbeat.clear()

    # ---- the loop

    def run(self, stop: Callable[[], bool], progress: Callable[[Totals, int], None] | None = None) -> None:
        """Step until `stop()` is true, then index what has been written by then.

        `progress` is called with the totals and the number of files still to be read.
        """
        while not stop():
            now = time.time()
            is_busy = self.step(now)
            if progress is not None:
                progress(self.totals, self._waiting)
            if not is_busy and self._watcher is not None:
                self._watcher.hints.wait(min(1.0, max(0.0, self._due() - now)))
        self._drain()

    def _drain(self) -> None:
        """Scan one last time, because a hint may not have arrived yet, and read what the scan finds."""
        self._scans.restart()
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.step(time.time()) and time.monotonic() < deadline:
            pass

    def wake(self) -> None:
        """Make a waiting `run` test its stop condition. For any thread, but not for a signal handler, because the
        handler may interrupt the wait while that holds the very lock that this takes."""
        if self._watcher is not None:
            self._watcher.hints.wake()

    def run_once(self, progress: Callable[[Totals, int], None] | None = None) -> None:
        """Index what is there now, and return. Raises SidecarError if it still fails at the third attempt."""
        self._scans.begin_by(0.0)
        failures = 0
        while True:
            is_busy = self.step(time.time())
            if self._writer is None:
                failures += 1
                if failures == 3:
                    raise SidecarError(f"could not index: {'; '.join(self.faults.current.values())}")
                self._timers.retry_at = 0.0
            elif not is_busy:
                break
            if progress is not None:
                progress(self.totals, self._waiting)
        self._writer.checkpoint()

    def step(self, now: float) -> bool:
        """Take one turn at the time `now`, in seconds since 1970. Returns whether there is more to do at once."""
        if stepped_back := self._timers.advance(now):
            self._scans.clock_stepped_back(stepped_back)
        if now < self._timers.retry_at:
            return False
        try:
            return self._turn(now)
        except _FAILURES as error:
            self._fail(error, now)
            return False

    def _turn(self, now: float) -> bool:
        writer = self._open_writer()
        self._check_for_tampering(writer, now)
        self._take_hints(writer)
        self._continue_scan(writer, now)
        self._queue.update(dict.fromkeys(self._timers.take_rereads()))
        self._read_backlog(writer)
        self._write(writer, self._read_dirty(writer, now))
        self._checkpoint_if_due(writer, now)
        is_busy = self._requests.turn(writer) or self._waiting > 0 or self._scans.is_on
        if not is_busy:  # only once all has been caught up: a failure is followed by a scan
            self.faults.clear(Faults.INDEX)
        self.faults.report_changes()
        return is_busy

    def _due(self) -> float:
        """When there will be something to do, in seconds since 1970, if nothing happens before."""
        if self._writer is None:
            return self._timers.retry_at
        has_unsaved = self._writer.unsaved > 0
        return min(self._scans.due, self._requests.due(), self._timers.next_due(checkpoint=has_unsaved))

    def _open_writer(self) -> IndexWriter:
        """The open index. After a failure it is opened again, and a scan begins."""
        if self._writer is None:
            self._writer = IndexWriter(self.settings, self.file_states)
            self._scans.restart()
        return self._writer

    def _check_for_tampering(self, writer: IndexWriter, now: float) -> None:
        """Check whether another process has written to the index. On a timer of its own, because scans may be rare."""
        if now >= self._timers.next_tamper_check:
            writer.check()
            self._timers.next_tamper_check = now + self.settings.scan_interval

    # ---- what may have changed

    @property
    def _waiting(self) -> int:
        """The number of files that are still to be read."""
        return len(self._queue) + len(self._backlog)

    def _mark(self, writer: IndexWriter, path: str) -> None:
        """Mark a file to be read."""
        if path in writer.known or self._rotation.is_ours(writer, path):
            self._queue[path] = None
        else:
            self._backlog.add(path)

    def _take_hints(self, writer: IndexWriter) -> None:
        if self._watcher is None:
            return
        self._watcher.check()
        paths, scan = self._watcher.hints.fetch()
        root = os.fspath(self.settings.root) + os.sep
        for path in paths:
            if path.startswith(root):
                for log in self._rotation.logs_of_hint(writer, path[len(root) :]):
                    self._mark(writer, log)
        if scan:
            self._scans.ask()

    def _continue_scan(self, writer: IndexWriter, now: float) -> None:
        """Begin a scan if it is due, and take the next slice of the current one."""
        if self._scans.begins(now) and self._watcher is not None:
            self._watcher.refresh()
        differing, finished = self._scans.turn(lambda found: self._is_to_read(writer, found))
        for found in differing:
            is_known = found.path in self._queue or self._backlog.is_out(found.path)
            if not is_known and self._rotation.is_log(writer, found.path, now, is_patient=self._watcher is not None):
                self._mark(writer, found.path)
                self.totals.found += max(0, found.status.st_size - writer.known.size(found.path))
        if finished is not None:
            self._end_scan(writer, finished, now)

    def _is_to_read(self, writer: IndexWriter, found: FoundFile) -> bool:
        """Whether a file that a scan has found may hold something unread, or could not be read the last time."""
        return self._rotation.differs(writer, found) or found.path in self.faults.current

    def _end_scan(self, writer: IndexWriter, finished: FinishedScan, now: float) -> None:
        """Record which files have vanished and which errors are new or over, and plan the next scan."""
        seen, scan = finished
        for path in writer.known.unseen(seen):
            if scan.covers(path):
                self._queue[self._rotation.note_unseen(writer, path)] = None  # reading it will show whether it is gone
        for name in [name for name in self.faults.current if name not in seen and name != Faults.INDEX]:
            if writer.known.is_away(name):  # otherwise reading it will show
                self.faults.clear(name)
        for folder, why in scan.failed.items():
            self.faults.note(folder or "root", f"{folder or self.settings.root}: {why}")
        self.totals.scans += 1
        self.totals.skipped_paths = scan.skipped_paths
        level = logging.INFO if self.totals.scans == 1 else logging.DEBUG
        _log.log(level, "scan %d ended: %d sources, %d to be read", self.totals.scans, len(seen), self._waiting)
        is_polling = self._watcher is not None and self._watcher.mode == "polling"
        self._scans.plan(now, polling=is_polling, is_well=not self.faults.current)
        self.faults.report()

    def _read_backlog(self, writer: IndexWriter) -> None:
        """Ingest what worker processes have read, and give them more."""
        is_scanning = self._scans.is_on
        wait = 0.0 if self._queue or is_scanning else BACKLOG_WAIT
        ingested = self._backlog.turn(writer, wait, is_scanning=is_scanning)
        self._queue.update(dict.fromkeys(ingested.again))
        self.totals.entries += ingested.entries
        self.totals.bytes += ingested.bytes

    # ---- reading and saving

    def _read_dirty(self, writer: IndexWriter, now: float) -> list[Batch]:
        """Read one chunk of each dirty file, until none is dirty or the batch is full."""
        batches: list[Batch] = []
        rows = 0
        max_bytes = self.totals.bytes + MAX_BATCH_BYTES
        for _ in range(len(self._queue)):
            if batches and self._rotation.is_due(next(iter(self._queue))):
                break
            path, _ = self._queue.popitem(last=False)
            if self._backlog.is_out(path):  # two processes must not read it at once
                self._backlog.add(path)
                continue
            if not (path in self.faults.current or path in self._rotation) and writer.known.is_unchanged(path):
                continue
            try:
                batch, more = self._read_file(writer, path, now)
            except FileNotFoundError:
                self.faults.clear(path)
                if self.settings.root.is_dir():  # otherwise everything is out of reach, and nothing known to be gone
                    writer.vanished(path)
                continue
            except (OSError, SourceError) as error:
                if path not in writer.known and not self._is_file(path):
                    continue  # a link, pipe or socket that never was a log is skipped, as by a scan
                self.faults.note(path, f"{path}: {getattr(error, 'strerror', None) or error}")
                self._scans.begin_by(now + self.settings.scan_interval)
                continue
            self.faults.clear(path)
            if more:
                self._queue[path] = None
            if batch is not None:
                batches.append(batch)
                rows += len(batch.rows)
                if rows >= MAX_BATCH_ROWS or self.totals.bytes >= max_bytes:
                    break
        return batches

    def _is_file(self, path: str) -> bool:
        with suppress(OSError, UnsafePath):
            return stat.S_ISREG(os.lstat(path_under(self.settings.root, path)).st_mode)
        return True  # unknown at the moment

    def _read_file(self, writer: IndexWriter, path: str, now: float) -> tuple[Batch | None, bool]:
        """Read the next chunk of a file. Returns its batch, and whether there is more."""
        self._rotation.take_name(writer, path)
        state = writer.state(path)
        if state is None:
            return None, False
        if path in self._rotation:
            self._rotation.align(writer, state)
        before = state.offset
        outcome = read_next(state, self.settings.root, self.settings.max_line_bytes, now, archive=self._archive)
        if outcome.changed:
            reason = "" if outcome.is_restored else reason_for_change(state, self.settings.root)
            self._rotation.begin_again(writer, state, reason)
            return None, True
        if outcome.moved:
            self._rotation.ask(path)
            return None, True
        if outcome.retry_in is not None:
            self._timers.reread_at(path, now + outcome.retry_in)
        self.totals.bytes += state.offset - before
        writer.note_read(state, now, more=outcome.more or outcome.retry_in is not None)
        return outcome.batch, outcome.more

    def _write(self, writer: IndexWriter, batches: list[Batch]) -> None:
        writer.write(batches)
        self.totals.entries += sum(len(batch.rows) for batch in batches)

    def _checkpoint_if_due(self, writer: IndexWriter, now: float) -> None:
        if writer.unsaved and (now >= self._timers.next_checkpoint or writer.unsaved >= MAX_UNSAVED_SOURCES):
            _log.debug("checkpoint, %d sources", writer.unsaved)
            writer.checkpoint()
            self._timers.next_checkpoint = now + self.settings.checkpoint_interval

    # ---- failures

    def _fail(self, error: Exception, now: float) -> None:
        """Drop what is in memory; the next turn starts from what was saved. Raises IndexDamaged for a damaged file."""
        if is_damage(error):
            raise IndexDamaged(f"{self.settings.index_folder}: {root_cause(error)}") from error
        self.faults.note(Faults.INDEX, index_fault(self.settings.index_folder, error))
        self._timers.retry_at = now + RETRY_DELAY
        self._requests.begin_again()
        self._backlog.close()
        if self._writer is not None:
            with suppress(*_FAILURES):
                self._writer.abandon()
            self._writer = None
        self.faults.report()

    def _report(self, errors: list[str]) -> None:
        """Publish the watch mode and the current errors for other processes."""
        if self._watcher is not None:
            self._heartbeat.report(self._watcher.mode, self._watcher.why_polling, errors)
