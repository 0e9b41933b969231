"""What `sidecar run` does around the daemon: lock, repair, run, back off after an error, and repair again."""

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
from sidecar.store.connection import DATABASE_ERRORS, root_cause

from .daemon import Sidecar, Totals
from .heartbeat import Heartbeat
from .lock import RootLock, root_locked
from .repair import database_errors_named, quarantine, repair

GC_THRESHOLD = 50_000
"""After so many it is looked whether some of them are garbage that only refers to itself."""


_log = get_logger(__name__)


class _RootGone(Exception):
    """The lock that is held is not the one of the root any more: the root, or its index folder, is gone or another."""


def run(
    settings: Settings,
    stop: Callable[[], bool],
    on_start: Callable[[Sidecar], None],
    report: Reporter,
    warn: Callable[[str], None] = lambda _: None,
) -> None:
    """Index what is there and what comes, until `stop()`. What goes wrong is told and waited out, however long.

    `on_start` is given each running sidecar, so that a signal handler can wake it. Raises RootLocked where another one
    runs, ConfigError where there is no root, OSError where the lock cannot be taken; the latter two only at the start.
    """
    voice = Heartbeat(settings.index_folder)
    patience = Backoff(settings, stop, warn, voice)
    began = False
    try:
        while not stop():
            try:
                with root_locked(settings, "run") as lock:
                    began = True
                    _run_under(lock, settings, stop, on_start, report, patience, voice)
            except _RootGone:
                patience.for_root()
            except ConfigError:
                if not began:
                    raise
                patience.for_root()
            except OSError as error:
                if not began or stop():
                    raise
                patience.after(error)
    finally:
        voice.clear()


def _run_under(
    lock: RootLock,
    settings: Settings,
    stop: Callable[[], bool],
    on_start: Callable[[Sidecar], None],
    report: Reporter,
    patience: Backoff,
    voice: Heartbeat,
) -> None:
    """Run for as long as the lock is that of the root; raises _RootGone when it is not."""

    def should_stop() -> bool:
        if stop():
            return True
        if not lock.stands():
            raise _RootGone
        return False

    while not should_stop():
        try:
            with open_sidecar(settings, report, voice=voice, is_ours=lock.stands) as (sidecar, _):
                patience.recovered()
                on_start(sidecar)
                sidecar.run(should_stop, catching_up(report))
                sidecar.close()
                return
        except (OSError, *DATABASE_ERRORS, SidecarError) as error:
            if should_stop():
                raise
            patience.after(error)


def run_once(settings: Settings, report: Reporter) -> Totals:
    """Index what is there now. Errors as with `run`; SidecarError where it could not be done."""
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
    settings: Settings, report: Reporter, *, voice: Heartbeat | None = None, is_ours: Callable[[], bool] = lambda: True
) -> Iterator[tuple[Sidecar, Rebuilt | None]]:
    """An open sidecar on a sound index, for the block to close; with a voice it watches, and says how it does.

    Damage that shows in the block sets the index aside, unless it is not ours any more, and ends the block, so that the
    next one begins with a rebuild.
    """
    sidecar, rebuilt = _opened(settings, report, voice)
    try:
        with database_errors_named(settings), _collecting_seldom():
            yield sidecar, rebuilt
    except IndexUnavailable as error:
        sidecar.abandon()
        if is_ours():
            quarantine(settings.index_folder, str(error))
    finally:
        sidecar.abandon()


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Rows make no cycles, and looking for some among every seven hundred new objects costs a seventh of the time."""
    before = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _opened(settings: Settings, report: Reporter, voice: Heartbeat | None) -> tuple[Sidecar, Rebuilt | None]:
    for attempt in range(1, MAX_REBUILD_ATTEMPTS + 1):
        left: FileStates = {}
        rebuilt = repair(settings, report, left)
        sidecar = Sidecar(settings, watch=voice is not None, heartbeat=voice)
        sidecar.file_states.update(left)
        try:
            sidecar.open()
        except IndexUnavailable as error:  # of a file that looked as it was left, and was not checked
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
    """`sidecar reindex`: under the lock. Errors as with `run`."""
    with root_locked(settings, "reindex"), database_errors_named(settings):
        _log.info("rebuilding the index: asked for by `reindex`")
        rebuilt = reindex(settings, workers, report)
        _log.info("index rebuilt: %d entries from %d bytes", rebuilt.entries, rebuilt.bytes)
        return rebuilt


def catching_up(report: Reporter) -> Callable[[Totals, int], None]:
    """Turn the daemon's totals into reports, while there is more than a moment's work."""

    def tell(totals: Totals, files: int) -> None:
        if files:
            report(Report("indexing", totals.bytes, max(totals.bytes, totals.found), totals.entries))

    return tell


# ---- back-off

MAX_BACKOFF = 30.0
"""Seconds between two tries at most; the first wait is one second. A rebuild that finds no room on the disk takes what
room there is while it tries, and the logs may lie on the same disk."""
POLL_INTERVAL = 0.1


class Backoff:
    """Waits for what is wrong to end, or for `stop()`. One for a run; only the main thread touches it."""

    def __init__(
        self, settings: Settings, stop: Callable[[], bool], warn: Callable[[str], None], voice: Heartbeat
    ) -> None:
        self._settings = settings
        self._stop = stop
        self._warn = warn
        self._told = ""
        self._seconds = 1.0
        self._voice = voice

    def after(self, error: Exception) -> None:
        """Return when it is time to try again what ended with this error; each time in a row it takes longer."""
        why = f"index: {root_cause(error)}"
        self._say(why)
        self._voice.report("", "", [why])
        self._wait(self._seconds)
        self._seconds = min(MAX_BACKOFF, 2 * self._seconds)

    def for_root(self) -> None:
        """Return when there is a root with something in it. An empty one is a mount point, or not yet of use."""
        root = self._settings.root
        if not is_empty(root):
            return
        self._say(f"the root {root} is gone or empty; waiting for it")
        while is_empty(root) and not self._stop():
            time.sleep(POLL_INTERVAL)

    def recovered(self) -> None:
        """It goes on again."""
        self._told, self._seconds = "", 1.0

    def _say(self, why: str) -> None:
        if why != self._told:
            self._told = why
            _log.warning("waiting: %s", why)
            self._warn(why)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._stop():
            time.sleep(POLL_INTERVAL)


def is_empty(root: os.PathLike[str]) -> bool:
    """Whether there is nothing in a folder, or no folder."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except OSError:
        return True
