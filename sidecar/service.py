"""What `sidecar run` does around the daemon: take the lock, heal what is broken, run, and heal again if need be."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from peewee import PeeweeException

from . import swap
from .config import Settings
from .daemon import Sidecar, Totals
from .errors import ConfigError, IndexDamaged, IndexMissing, IndexUnavailable, SidecarError
from .index import sign
from .lock import RootLock
from .reader import Catalog, Day
from .records import Report
from .reindex import ATTEMPTS, Rebuilt, Reporter, noted, reindex
from .schema import CATALOG, DAILY, damage_named, nonsense_named, open_for_reading, recover


def run(
    settings: Settings, stop: Callable[[], bool], on_start: Callable[[Sidecar], None], report: Reporter
) -> None:
    """Index what is there and what comes, until `stop()`.

    `on_start` is given the running sidecar, so that a signal handler can wake it. Raises RootLocked where another one
    runs, ConfigError where there is no root.
    """
    with locked(settings, "run") as lock:
        while not stop():
            lock.renew()
            with healed(settings, report, watch=True) as (sidecar, _):
                on_start(sidecar)
                sidecar.run(stop, catching_up(report))
                sidecar.close()
                return


def run_once(settings: Settings, report: Reporter) -> Totals:
    """Index what is there now. Errors as with `run`; SidecarError where it could not be done."""
    with locked(settings, "run --once"):
        while True:
            with healed(settings, report, watch=False) as (sidecar, rebuilt):
                sidecar.run_once(catching_up(report))
                totals = sidecar.totals
                if rebuilt is not None:
                    totals.entries += rebuilt.entries
                    totals.bytes += rebuilt.bytes
                sidecar.close()
                return totals


@contextmanager
def healed(settings: Settings, report: Reporter, *, watch: bool) -> Iterator[tuple[Sidecar, Rebuilt | None]]:
    """An open sidecar on a sound index, for the block to close. Damage that shows in the block sets the index aside and
    ends the block, so that the next one begins with a rebuild."""
    sidecar, rebuilt = _opened(settings, report, watch=watch)
    try:
        with _database_errors_named(settings):
            yield sidecar, rebuilt
    except IndexUnavailable as error:
        sidecar.abandon()
        set_aside(settings.index_folder, str(error))
    finally:
        sidecar.abandon()


def _opened(settings: Settings, report: Reporter, *, watch: bool) -> tuple[Sidecar, Rebuilt | None]:
    for attempt in range(1, ATTEMPTS + 1):
        rebuilt = heal(settings, report)
        sidecar = Sidecar(settings, watch=watch)
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
    """What the last checkpoint may raise, as an error of ours."""
    try:
        with damage_named(settings.index_folder):
            yield
    except PeeweeException as error:
        raise SidecarError(f"{settings.index_folder}: {error}") from error


def rebuild(settings: Settings, workers: int, report: Reporter) -> Rebuilt:
    """`sidecar reindex`: under the lock. Errors as with `run`."""
    with locked(settings, "reindex"):
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
        yield lock
    finally:
        lock.release()


def heal(settings: Settings, report: Reporter) -> Rebuilt | None:
    """Finish a swap that was interrupted, and rebuild an index that is missing, damaged or out of date."""
    folder = settings.index_folder
    swap.settle(folder)
    first_mtimes = noted(folder)
    try:
        for path in (folder / swap.CATALOG_NAME, *swap.daily_paths(folder)):
            recover(path)
        why = fault(settings)
    except IndexMissing as error:
        why = str(error)
    except IndexUnavailable as error:
        why = str(error)
        set_aside(folder, why)
    # What cannot be read now is no reason to index nothing: the scans of the daemon tell of it, and find it later.
    return None if why is None else reindex(settings, 0, report, first_mtimes, strict=False)


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
        except PeeweeException as error:
            raise IndexDamaged(f"{path}: {error}") from error
        if result != "ok":
            raise IndexDamaged(f"{path}: {result}")


def set_aside(folder: Path, why: str) -> None:
    """Move the index files out of the way, with the reason beside them. Only the latest damage is kept."""
    swap.remove_strangers(folder)
    aside = folder / swap.ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, exist_ok=True)
    stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%SZ")
    for file in (*folder.glob("catalog.db*"), *(folder / swap.DAILY_NAME).glob("*.db*")):
        file.replace(aside / f"{stamp}-{file.name}")  # a database and its log keep names that go together
    (aside / "why.txt").write_text(f"{stamp} {why}\n")


def catching_up(report: Reporter) -> Callable[[Totals, int], None]:
    """Turn the daemon's totals into reports, while there is more than a moment's work."""

    def tell(totals: Totals, files: int) -> None:
        if files:
            report(Report("indexing", totals.bytes, max(totals.bytes, totals.found), totals.entries))

    return tell
