"""What `sidecar run` does around the daemon: take the lock, heal what is broken, run, and heal again if need be."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sidecar.bulk.rebuild import ATTEMPTS, Rebuilt, Reporter, noted, reindex
from sidecar.config.settings import Settings
from sidecar.errors import ConfigError, IndexDamaged, IndexMissing, IndexUnavailable, SidecarError
from sidecar.indexer.days import sign
from sidecar.indexer.tamper import AsLeft, as_found
from sidecar.query.reader import Catalog, Day
from sidecar.records import Report
from sidecar.store import layout as swap
from sidecar.store.connection import (
    CATALOG,
    DAILY,
    DATABASE_ERRORS,
    damage_named,
    first,
    nonsense_named,
    open_for_reading,
    recover,
)

from .backoff import Patience
from .daemon import Sidecar, Totals
from .heartbeat import Voice
from .lock import RootLock

NEW_OBJECTS = 50_000
"""After so many it is looked whether some of them are garbage that only refers to itself."""


class _RootGone(Exception):
    """The lock that is held is not the one of the root any more: the root, or its index folder, is gone or another."""


def run(
    settings: Settings,
    stop: Callable[[], bool],
    on_start: Callable[[Sidecar], None],
    report: Reporter,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Index what is there and what comes, until `stop()`. What goes wrong is told and waited out, however long.

    `on_start` is given each running sidecar, so that a signal handler can wake it. Raises RootLocked where another one
    runs, ConfigError where there is no root, OSError where the lock cannot be taken; the latter two only at the start.
    """
    voice = Voice(settings.index_folder)
    patience = Patience(settings, stop, tell, voice)
    began = False
    try:
        while not stop():
            try:
                with locked(settings, "run") as lock:
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
    patience: Patience,
    voice: Voice,
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
            with healed(settings, report, voice=voice, is_ours=lock.stands) as (sidecar, _):
                patience.is_over()
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
    with locked(settings, "run --once"), _database_errors_named(settings):
        while True:
            with healed(settings, report) as (sidecar, rebuilt):
                sidecar.run_once(catching_up(report))
                totals = sidecar.totals
                if rebuilt is not None:
                    totals.entries += rebuilt.entries
                    totals.bytes += rebuilt.bytes
                sidecar.close()
                return totals


@contextmanager
def healed(
    settings: Settings, report: Reporter, *, voice: Voice | None = None, is_ours: Callable[[], bool] = lambda: True
) -> Iterator[tuple[Sidecar, Rebuilt | None]]:
    """An open sidecar on a sound index, for the block to close; with a voice it watches, and says how it does.

    Damage that shows in the block sets the index aside, unless it is not ours any more, and ends the block, so that the
    next one begins with a rebuild.
    """
    sidecar, rebuilt = _opened(settings, report, voice)
    try:
        with _database_errors_named(settings), _collecting_seldom():
            yield sidecar, rebuilt
    except IndexUnavailable as error:
        sidecar.abandon()
        if is_ours():
            set_aside(settings.index_folder, str(error))
    finally:
        sidecar.abandon()


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Rows make no cycles, and looking for some among every seven hundred new objects costs a seventh of the time."""
    before = gc.get_threshold()
    gc.set_threshold(NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _opened(settings: Settings, report: Reporter, voice: Voice | None) -> tuple[Sidecar, Rebuilt | None]:
    for attempt in range(1, ATTEMPTS + 1):
        left: AsLeft = {}
        rebuilt = heal(settings, report, left)
        sidecar = Sidecar(settings, watch=voice is not None, voice=voice)
        sidecar.left.update(left)
        try:
            sidecar.open()
        except IndexUnavailable as error:  # of a file that looked as it was left, and was not checked
            sidecar.abandon()
            if attempt == ATTEMPTS:
                raise
            set_aside(settings.index_folder, str(error))
        except BaseException:
            sidecar.abandon()
            raise
        else:
            break
    return sidecar, rebuilt


@contextmanager
def _database_errors_named(settings: Settings) -> Iterator[None]:
    """What SQLite raises, as an error of ours."""
    try:
        with damage_named(settings.index_folder):
            yield
    except DATABASE_ERRORS as error:
        raise SidecarError(f"{settings.index_folder}: {first(error)}") from error


def rebuild(settings: Settings, workers: int, report: Reporter) -> Rebuilt:
    """`sidecar reindex`: under the lock. Errors as with `run`."""
    with locked(settings, "reindex"), _database_errors_named(settings):
        return reindex(settings, workers, report)


@contextmanager
def locked(settings: Settings, job: str) -> Iterator[RootLock]:
    """Hold the root for a job."""
    if not settings.root.is_dir():
        raise ConfigError(
            f"the root {settings.root} is no folder", hint="start the daemon that logs there first, or give --root"
        )
    lock = RootLock(settings.index_folder)
    lock.acquire(job)
    try:
        # The index folder may be new, and all that will be synced in it hangs by its name.
        with suppress(OSError):  # a scan will tell what is wrong with the root
            swap.sync_folder(settings.root)
        yield lock
    finally:
        lock.release()


def heal(settings: Settings, report: Reporter, left: AsLeft | None = None) -> Rebuilt | None:
    """Finish a swap that was interrupted, and rebuild an index that is missing, damaged or out of date.

    `left` is told how the files look that are sound, so that whoever opens them finds what was done to them since.
    """
    left = {} if left is None else left
    folder = settings.index_folder
    swap.settle(folder)
    first_mtimes = noted(folder)
    try:
        for path in _files(folder):
            recover(path)
        left |= as_found(_files(folder))  # before they are checked
        why = fault(settings)
    except IndexMissing as error:
        why = str(error)
    except IndexUnavailable as error:
        why = str(error)
        set_aside(folder, why)
    # What cannot be read now is no reason to index nothing: the scans of the daemon tell of it, and find it later.
    if why is None:
        return None
    rebuilt = reindex(settings, 0, report, first_mtimes, strict=False)
    left.clear()
    left |= as_found(_files(folder))
    return rebuilt


def _files(folder: Path) -> list[Path]:
    return [folder / swap.CATALOG_NAME, *swap.daily_paths(folder)]


def fault(settings: Settings) -> str | None:
    """Why the index has to be made again, or None. Raises IndexUnavailable where a file of it is broken."""
    folder = settings.index_folder
    with closing(Catalog(swap.catalog_path(folder))) as catalog:
        if catalog.fact("config") != settings.fingerprint:
            return "sources or formats have changed"
        checkpoints = {f"{day}.db": number for day, number in catalog.checkpoints().items()}
        trusted = set((catalog.fact("files") or "").split())
        closed = catalog.fact("closed") or "0"
    _check(swap.catalog_path(folder), CATALOG)
    there = {path.name: path for path in swap.daily_paths(folder)}
    for name in sorted(checkpoints.keys() - there.keys()):
        raise IndexDamaged(f"{folder / swap.DAILY_NAME / name} is missing")
    for path in there.values():
        number = checkpoints.get(path.name, 0)
        is_trusted = sign(path) in trusted
        if not is_trusted:
            _check(path, DAILY)
        # What was written since it was closed in good order stands beside it, in a write-ahead log.
        if not is_trusted or not closed.isdigit() or number > int(closed):
            _check_day(path, number)
    return None


def _check_day(path: Path, checkpoint: int) -> None:
    """Raise IndexDamaged where this is another day's file, or knows nothing of a checkpoint that wrote to it."""
    with closing(Day(path)) as day, nonsense_named(path):
        facts = day.facts()
        if facts.get("day") != path.stem:
            raise IndexDamaged(f"{path} is the file of another day")
        if int(facts.get("checkpoint", "0")) < checkpoint:
            raise IndexDamaged(f"{path} has lost what was written last")


def _check(path: Path, kind: int) -> None:
    with closing(open_for_reading(path, kind)) as database:
        try:
            with damage_named(path):
                result = database.execute_sql("PRAGMA quick_check(1)").fetchone()[0]
        except DATABASE_ERRORS as error:
            raise IndexDamaged(f"{path}: {error}") from error
        if result != "ok":
            raise IndexDamaged(f"{path}: {result}")


def set_aside(folder: Path, why: str) -> None:
    """Move the index files out of the way, with the reason beside them. Only the latest damage is kept.

    The catalog goes first: without it the index is made again, if not all can be moved. One that was moved by such a
    try is kept, for its notes.
    """
    swap.remove_strangers(folder)
    aside = folder / swap.ASIDE
    if (folder / swap.CATALOG_NAME).exists():
        shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, exist_ok=True)
    stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%SZ")
    for file in (*folder.glob("catalog.db*"), *(folder / swap.DAILY_NAME).glob("*.db*")):
        file.replace(aside / f"{stamp}-{file.name}")  # a database and its log keep names that go together
    with suppress(OSError):  # the disk may be full
        (aside / "why.txt").write_text(f"{stamp} {why}\n")


def catching_up(report: Reporter) -> Callable[[Totals, int], None]:
    """Turn the daemon's totals into reports, while there is more than a moment's work."""

    def tell(totals: Totals, files: int) -> None:
        if files:
            report(Report("indexing", totals.bytes, max(totals.bytes, totals.found), totals.entries))

    return tell
