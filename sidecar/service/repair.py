"""Repair an index before it is opened: finish an interrupted swap, quarantine a damaged index, rebuild it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sidecar.bulk.rebuild import Rebuilt, first_seen_times, reindex
from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import IndexDamaged, IndexMissing, IndexUnavailable, SidecarError
from sidecar.guarded import GuardedFolder
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
from sidecar.store.database_files import check_format

_log = get_logger(__name__)


@contextmanager
def database_errors_named(settings: Settings) -> Iterator[None]:
    """Raise errors of the sidecar in place of database errors: IndexDamaged for a damaged file, else SidecarError."""
    try:
        with database_damage_as_errors(settings.index_folder):
            yield
    except DATABASE_ERRORS as error:
        raise SidecarError(f"{settings.index_folder}: {root_cause(error)}") from error


def repair(settings: Settings, report: Reporter, file_states: FileStates | None = None) -> Rebuilt | None:
    """Finish an interrupted swap, and rebuild an index that is missing, damaged or out of date.

    The states of the files that were checked are added to `file_states`, so that whoever opens the files can detect
    that they have been written to since. Returns None if nothing had to be rebuilt. Raises the errors of `reindex` and
    of `GuardedFolder.open_own`.
    """
    file_states = {} if file_states is None else file_states
    folder = settings.index_folder
    layout.finish_swap(folder)
    first_mtimes = first_seen_times(folder)
    try:
        with GuardedFolder.open_own(folder) as index:
            roll_back_journal(index, layout.CATALOG_NAME)
            check_format(index, layout.CATALOG_NAME)
            for path in layout.daily_paths(folder):
                with index.folder(layout.DAILY_NAME) as daily:
                    roll_back_journal(daily, path.name)
                    check_format(daily, path.name)
        # Before the files are checked, so that nothing that is written to them later goes unnoticed.
        file_states |= states_of(_files(folder))
        why = reason_to_rebuild(settings)
    except IndexMissing as error:
        why = str(error)
    except IndexUnavailable as error:
        why = str(error)
        quarantine(folder, why)
    if why is None:
        return None
    _log.info("rebuilding the index: %s", why)
    # Not strict, because a log that cannot be read now is no reason not to index the others. The daemon's scans report
    # such logs and try again.
    rebuilt = reindex(settings, 0, report, first_mtimes, strict=False)
    _log.info("index rebuilt: %d entries from %d bytes", rebuilt.entries, rebuilt.bytes)
    file_states.clear()
    file_states |= states_of(_files(folder))
    return rebuilt


def _files(folder: Path) -> list[Path]:
    return [folder / layout.CATALOG_NAME, *layout.daily_paths(folder)]


def reason_to_rebuild(settings: Settings) -> str | None:
    """Why the index has to be rebuilt; None if it need not be. Raises IndexUnavailable if one of its files is missing
    or damaged."""
    folder = settings.index_folder
    with closing(CatalogReader(layout.catalog_path(folder))) as catalog:
        if catalog.fact("config") != settings.fingerprint:
            return "sources, formats or the law of derivation have changed"
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
        # If it was written to since it was closed in good order, the rows are in the write-ahead log beside it.
        if not is_trusted or not closed.isdigit() or number > int(closed):
            _check_day(path, number)
    return None


def _check_day(path: Path, checkpoint: int) -> None:
    """Raise IndexDamaged if this is the file of another day, or has lost what the last checkpoint wrote to it."""
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
                # The statement of the view is the one thing that quick_check does not check.
                if kind == DAILY:
                    database.execute_sql("SELECT * FROM ksi_index LIMIT 0")
        except DATABASE_ERRORS as error:
            raise IndexDamaged(f"{path}: {error}") from error
        if result != "ok":
            raise IndexDamaged(f"{path}: {result}")


def quarantine(folder: Path, why: str) -> None:
    """Move the index files to `index/damaged/`, with the reason beside them. Only the latest damaged index is kept.

    The catalog is moved first: if the rest cannot be moved, the next start rebuilds the index because there is no
    catalog. A catalog that such an incomplete attempt has moved is kept, because of the first-seen times in it. Raises
    OSError, and the errors of `GuardedFolder.open_own`.
    """
    with GuardedFolder.open_own(folder) as index:
        layout.delete_foreign_files(index)
        if index.status(layout.CATALOG_NAME) is not None:
            index.delete_all(layout.QUARANTINE)
        stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%SZ")
        with index.folder(layout.QUARANTINE, create=True) as quarantined:
            # A database and its write-ahead log keep matching names.
            for name in index.names():
                if name.startswith(layout.CATALOG_NAME):
                    index.rename(name, f"{stamp}-{name}", quarantined)
            with suppress(FileNotFoundError), index.folder(layout.DAILY_NAME) as daily:
                for name in daily.names():
                    if ".db" in name:
                        daily.rename(name, f"{stamp}-{name}", quarantined)
            _log.warning("index files moved to %s: %s", quarantined.path, why)
            # The disk may be full.
            with suppress(OSError):
                quarantined.write("why.txt", f"{stamp} {why}\n".encode(errors="backslashreplace"))
