"""The outer loop of `sidecar run`: take the lock, repair, run the daemon, wait after an error, and start over.

Also the other jobs that need the root's lock: `run --once` and `reindex`.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sidecar.bulk.rebuild import MAX_REBUILD_ATTEMPTS, Rebuilt, reindex
from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import ConfigError, IndexUnavailable, SidecarError
from sidecar.indexer.tamper import FileStates
from sidecar.records import Report, Reporter
from sidecar.store.connection import DATABASE_ERRORS

from .daemon import Sidecar
from .faults import index_fault
from .heartbeat import Heartbeat
from .lock import RootLock, root_locked
from .repair import database_errors_named, quarantine, repair
from .totals import Totals

GC_THRESHOLD = 50_000
"""After this many new objects Python searches for garbage that refers to itself."""


_log = get_logger(__name__)


class _RootGone(Exception):
    """The lock that is held is no longer the root's: the root or its index folder is gone or has been replaced."""


def run(
    settings: Settings,
    stop: Callable[[], bool],
    on_start: Callable[[Sidecar], None],
    report: Reporter,
    warn: Callable[[str], None] = lambda _: None,
) -> None:
    """Index what is there and what is added, until `stop()` is true. After an error it tries again, however long that
    takes, and says why through `warn`.

    `on_start` is called with each running sidecar, so that a signal handler can wake it. Raises RootLocked if another
    sidecar holds the root; and, only at the start, RootMissing or ConfigError if there is no root, and OSError if the
    lock cannot be taken.
    """
    heartbeat = Heartbeat(settings.index_folder)
    backoff = Backoff(settings, stop, warn, heartbeat)
    has_started = False
    try:
        while not stop():
            try:
                with root_locked(settings, "run") as lock:
                    has_started = True
                    _run_under(lock, settings, stop, on_start, report, backoff, heartbeat)
            except _RootGone:
                backoff.for_root()
            except (ConfigError, OSError) as error:
                if not has_started or stop():
                    raise
                if is_empty(settings.root):
                    backoff.for_root()
                else:
                    backoff.after(error)
    finally:
        heartbeat.clear()


def _run_under(
    lock: RootLock,
    settings: Settings,
    stop: Callable[[], bool],
    on_start: Callable[[Sidecar], None],
    report: Reporter,
    backoff: Backoff,
    heartbeat: Heartbeat,
) -> None:
    """Run while the held lock is the root's. Raises _RootGone when it no longer is."""

    def should_stop() -> bool:
        if stop():
            return True
        if not lock.stands():
            raise _RootGone
        return False

    while not should_stop():
        try:
            with open_sidecar(settings, report, heartbeat=heartbeat, is_ours=lock.stands) as (sidecar, _):
                backoff.recovered()
                on_start(sidecar)
                sidecar.run(should_stop, catching_up(report))
                sidecar.close()
                return
        except (OSError, *DATABASE_ERRORS, SidecarError) as error:
            if should_stop():
                raise
            backoff.after(error)


def run_once(settings: Settings, report: Reporter) -> Totals:
    """Index what is there now, and return what was done. Raises the errors of `run`, and SidecarError if it could not
    be done."""
    with root_locked(settings, "run --once"), database_errors_named(settings):
        while True:
            with open_sidecar(settings, report) as (sidecar, rebuilt):
                sidecar.run_once(catching_up(report))
                totals = sidecar.totals
                if rebuilt is not None:
                    totals.entries += rebuilt.entries
                    totals.bytes += rebuilt.bytes
                sidecar.close()
                return totals


@contextmanager
def open_sidecar(
    settings: Settings,
    report: Reporter,
    *,
    heartbeat: Heartbeat | None = None,
    is_ours: Callable[[], bool] = lambda: True,
) -> Iterator[tuple[Sidecar, Rebuilt | None]]:
    """An open sidecar on a repaired index, which the block has to close, and what was rebuilt before. With a heartbeat,
    it watches the root and reports its state there.

    Damage that is found in the block ends the block without an error, and the index is quarantined, unless the root is
    no longer ours (`is_ours`), so that the next call rebuilds it.
    """
    sidecar, rebuilt = _opened(settings, report, heartbeat)
    try:
        with database_errors_named(settings), _rare_garbage_collection():
            yield sidecar, rebuilt
    except IndexUnavailable as error:
        sidecar.abandon()
        if is_ours():
            quarantine(settings.index_folder, str(error))
    finally:
        sidecar.abandon()


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Search for garbage less often. Rows form no cycles, and a search after every 700 new objects takes a seventh of
    the time."""
    before = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _opened(settings: Settings, report: Reporter, heartbeat: Heartbeat | None) -> tuple[Sidecar, Rebuilt | None]:
    for attempt in range(1, MAX_REBUILD_ATTEMPTS + 1):
        file_states: FileStates = {}
        rebuilt = repair(settings, report, file_states)
        sidecar = Sidecar(settings, watch=heartbeat is not None, heartbeat=heartbeat)
        sidecar.file_states.update(file_states)
        try:
            sidecar.open()
        except IndexUnavailable as error:
            # In a file that was not checked, because its state had not changed.
            sidecar.abandon()
            if attempt == MAX_REBUILD_ATTEMPTS:
                raise
            quarantine(settings.index_folder, str(error))
        except BaseException:
            sidecar.abandon()
            raise
        else:
            break
    return sidecar, rebuilt


def rebuild(settings: Settings, workers: int, report: Reporter) -> Rebuilt:
    """Rebuild the index under the lock, for `sidecar reindex`. Raises the errors of `run`, and SidecarError."""
    with root_locked(settings, "reindex"), database_errors_named(settings):
        _log.info("rebuilding the index: asked for by `reindex`")
        rebuilt = reindex(settings, workers, report)
        _log.info("index rebuilt: %d entries from %d bytes", rebuilt.entries, rebuilt.bytes)
        return rebuilt


def catching_up(report: Reporter) -> Callable[[Totals, int], None]:
    """A progress callback for the daemon, which reports its totals while there are files to be read."""

    def report_totals(totals: Totals, files: int) -> None:
        if files:
            report(Report("indexing", totals.bytes, max(totals.bytes, totals.found), totals.entries))

    return report_totals


# ---- back-off

MAX_BACKOFF = 30.0
"""The longest wait between two attempts, in seconds; the first is one second. The wait is this long because a rebuild
that runs out of disk space uses up all space while it tries, and the logs may be on the same disk."""
POLL_INTERVAL = 0.1
"""Seconds between two tests of whether the wait is over."""


class Backoff:
    """Exponential back-off until the error is over or `stop()` is true. Only the main thread touches it."""

    def __init__(
        self, settings: Settings, stop: Callable[[], bool], warn: Callable[[str], None], heartbeat: Heartbeat
    ) -> None:
        self._settings = settings
        self._stop = stop
        self._warn = warn
        self._last_warning = ""
        self._seconds = 1.0
        self._heartbeat = heartbeat

    def after(self, error: Exception) -> None:
        """Wait before the next attempt after an error: twice as long after each failure in a row, up to MAX_BACKOFF."""
        why = index_fault(self._settings.index_folder, error)
        self._warn_once(why)
        self._heartbeat.report("", "", [why])
        self._wait(self._seconds)
        self._seconds = min(MAX_BACKOFF, 2 * self._seconds)

    def for_root(self) -> None:
        """Wait until there is something in the root. An empty one is a mount point without its file system, or new."""
        root = self._settings.root
        if not is_empty(root):
            return
        self._warn_once(f"the root {root} is gone or empty; waiting for it")
        while is_empty(root) and not self._stop():
            time.sleep(POLL_INTERVAL)

    def recovered(self) -> None:
        """Reset the wait, because the sidecar is running again."""
        self._last_warning, self._seconds = "", 1.0

    def _warn_once(self, why: str) -> None:
        if why != self._last_warning:
            self._last_warning = why
            _log.warning("waiting: %s", why)
            self._warn(why)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._stop():
            time.sleep(POLL_INTERVAL)


def is_empty(root: os.PathLike[str]) -> bool:
    """Whether a folder is empty or missing."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except OSError:
        return True
