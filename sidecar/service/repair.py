"""Before an index is opened: an interrupted swap is finished, and a broken index is quarantined and rebuilt."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sidecar.bulk.rebuild import Rebuilt, first_seen_times, reindex
from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import IndexDamaged, IndexMissing, IndexUnavailable, SidecarError
from sidecar.indexer.day_files import signature
from sidecar.indexer.tamper import FileStates, states_of
from sidecar.query.catalog_reader import CatalogReader
from sidecar.query.day_reader import DayReader
from sidecar.records import Reporter
from sidecar.store import layout
from sidecar.store.connection import (
    CATALOG,
    DAILY,
    DATABASE_ERRORS,
    database_damage_as_errors,
    invalid_values_as_damage,
    open_for_reading,
    roll_back_journal,
    root_cause,
)

_log = get_logger(__name__)


@contextmanager
def database_errors_named(settings: Settings) -> Iterator[None]:
    """Raise what SQLite raises as errors of the sidecar: IndexDamaged for a broken file, else SidecarError."""
    try:
        with database_damage_as_errors(settings.index_folder):
            yield
    except DATABASE_ERRORS as error:
        raise SidecarError(f"{settings.index_folder}: {root_cause(error)}") from error


def repair(settings: Settings, report: Reporter, left: FileStates | None = None) -> Rebuilt | None:
    """Finish a swap that was interrupted, and rebuild an index that is missing, damaged or out of date.

    `left` is told how the files look that are sound, so that whoever opens them finds what was done to them since.
    """
    left = {} if left is None else left
    folder = settings.index_folder
    layout.finish_swap(folder)
    first_mtimes = first_seen_times(folder)
    try:
        for path in _files(folder):
            roll_back_journal(path)
        left |= states_of(_files(folder))  # before they are checked
        why = reason_to_rebuild(settings)
    except IndexMissing as error:
        why = str(error)
    except IndexUnavailable as error:
        why = str(error)
        quarantine(folder, why)
    # What cannot be read now is no reason to index nothing: the scans of the daemon tell of it, and find it later.
    if why is None:
        return None
    _log.info("rebuilding the index: %s", why)
    rebuilt = reindex(settings, 0, report, first_mtimes, strict=False)
    _log.info("index rebuilt: %d entries from %d bytes", rebuilt.entries, rebuilt.bytes)
    left.clear()
    left |= states_of(_files(folder))
    return rebuilt


def _files(folder: Path) -> list[Path]:
    return [folder / layout.CATALOG_NAME, *layout.daily_paths(folder)]


def reason_to_rebuild(settings: Settings) -> str | None:
    """Why the index has to be made again, or None. Raises IndexUnavailable where a file of it is broken."""
    folder = settings.index_folder
    with closing(CatalogReader(layout.catalog_path(folder))) as catalog:
        if catalog.fact("config") != settings.fingerprint:
            return "sources or formats have changed"
        checkpoints = {f"{day}.db": number for day, number in catalog.checkpoints().items()}
        trusted = set((catalog.fact("files") or "").split())
        closed = catalog.fact("closed") or "0"
    _check(layout.catalog_path(folder), CATALOG)
    there = {path.name: path for path in layout.daily_paths(folder)}
    for name in sorted(checkpoints.keys() - there.keys()):
        raise IndexDamaged(f"{folder / layout.DAILY_NAME / name} is missing")
    for path in there.values():
        number = checkpoints.get(path.name, 0)
        is_trusted = signature(path) in trusted
        if not is_trusted:
            _check(path, DAILY)
        # What was written since it was closed in good order stands beside it, in a write-ahead log.
        if not is_trusted or not closed.isdigit() or number > int(closed):
            _check_day(path, number)
    return None


def _check_day(path: Path, checkpoint: int) -> None:
    """Raise IndexDamaged where this is another day's file, or knows nothing of a checkpoint that wrote to it."""
    with closing(DayReader(path)) as day, invalid_values_as_damage(path):
        facts = day.facts()
        if facts.get("day") != path.stem:
            raise IndexDamaged(f"{path} is the file of another day")
        if int(facts.get("checkpoint", "0")) < checkpoint:
            raise IndexDamaged(f"{path} has lost what was written last")


def _check(path: Path, kind: int) -> None:
    with closing(open_for_reading(path, kind)) as database:
        try:
            with database_damage_as_errors(path):
                result = database.execute_sql("PRAGMA quick_check(1)").fetchone()[0]
        except DATABASE_ERRORS as error:
            raise IndexDamaged(f"{path}: {error}") from error
        if result != "ok":
            raise IndexDamaged(f"{path}: {result}")


def quarantine(folder: Path, why: str) -> None:
    """Move the index files out of the way, with the reason beside them. Only the latest damage is kept.

    The catalog goes first: without it the index is made again, if not all can be moved. One that was moved by such a
    try is kept, for its notes.
    """
    layout.remove_foreign_files(folder)
    aside = folder / layout.QUARANTINE
    if (folder / layout.CATALOG_NAME).exists():
        shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, exist_ok=True)
    stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%SZ")
    for file in (*folder.glob("catalog.db*"), *(folder / layout.DAILY_NAME).glob("*.db*")):
        file.replace(aside / f"{stamp}-{file.name}")  # a database and its log keep names that go together
    _log.warning("index files moved to %s: %s", aside, why)
    with suppress(OSError):  # the disk may be full
        (aside / "why.txt").write_text(f"{stamp} {why}\n")
