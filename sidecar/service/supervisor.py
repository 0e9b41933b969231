"""The outer loop of `sidecar run`: lock, repair, run the daemon, back off after an error, and repair again."""

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
"""New objects after which Python searches for garbage that only refers to itself."""


_log = get_logger(__name__)


class _RootGone(Exception):
    """The held lock is not the root's any more: the root, or its index folder, is gone or has been replaced."""


def run(
    settings: Settings,
    stop: Callable[[], bool],
    on_start: Callable[[Sidecar], None],
    report: Reporter,
    warn: Callable[[str], None] = lambda _: None,
) -> None:
    """Index what is there and what is added, until `stop()`. Errors are reported and retried, however long they last.

    `on_start` receives each running sidecar, so that a signal handler can wake it. Raises RootLocked if another sidecar
    holds the root, ConfigError if there is no root, OSError if the lock cannot be taken; the latter two only at the
    start.
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
    """Run for as long as the held lock is the root's; raises _RootGone when it no longer is."""

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
    """Index what is there now. Raises what `run` raises, and SidecarError if it could not be done."""
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
    """An open sidecar on a sound index, for the block to close; with a heartbeat it watches, and reports to it.

    Damage found in the block quarantines the index, unless the root is not ours any more, and ends the block, so that
    the next one begins with a rebuild.
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
    """Rows form no cycles, and searching for some after every seven hundred new objects costs a seventh of the time."""
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
        except IndexUnavailable as error:  # in a file that was not checked, because its state had not changed
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
    """`sidecar reindex`: rebuild the index under the lock. Raises what `run` raises, and SidecarError."""
    with root_locked(settings, "reindex"), database_errors_named(settings):
        _log.info("rebuilding the index: asked for by `reindex`")
        rebuilt = reindex(settings, workers, report)
        _log.info("index rebuilt: %d entries from %d bytes", rebuilt.entries, rebuilt.bytes)
        return rebuilt


def catching_up(report: Reporter) -> Callable[[Totals, int], None]:
    """A progress callback for the daemon that reports its totals while files are waiting to be read."""

    def report_totals(totals: Totals, files: int) -> None:
        if files:
            report(Report("indexing", totals.bytes, max(totals.bytes, totals.found), totals.entries))

    return report_totals


# ---- back-off

MAX_BACKOFF = 30.0
"""Seconds between two attempts at most; the first wait is one second. A rebuild that runs out of disk space takes what
space there is while it tries, and the logs may be on the same disk."""
POLL_INTERVAL = 0.1
"""Seconds between two tests of whether the wait is over."""


class Backoff:
    """Exponential back-off until the fault ends or `stop()` is true. One per run; only the main thread touches it."""

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
        """Wait before the next attempt after this error: twice as long for each failure in a row, up to MAX_BACKOFF."""
        why = index_fault(self._settings.index_folder, error)
        self._warn_once(why)
        self._heartbeat.report("", "", [why])
        self._wait(self._seconds)
        self._seconds = min(MAX_BACKOFF, 2 * self._seconds)

    def for_root(self) -> None:
        """Wait until the root has something in it. An empty one is an unused mount point, or not in use yet."""
        root = self._settings.root
        if not is_empty(root):
            return
        self._warn_once(f"the root {root} is gone or empty; waiting for it")
        while is_empty(root) and not self._stop():
            time.sleep(POLL_INTERVAL)

    def recovered(self) -> None:
        """Reset: the sidecar runs again."""
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
