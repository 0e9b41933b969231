"""Where the files of an index are, including while a rebuilt index takes the place of the old one.

A new index is built in `index/rebuild/`. Once it is complete and durable, the folder is renamed to `index/ready-…/`,
and `index/swap.json`, which names that folder, is created by one rename. From that moment on the new index is the
index: readers take each file from `ready-…/` if it is still there, and otherwise from its final place. Crash windows:

- before `swap.json` exists: the old index is still the index; the next start deletes `rebuild/` and `ready-…/`.
- while files are moved: some are in their final place, the others still in `ready-…/`, and readers find both; the next
  start moves the rest.
- after the last move, before `swap.json` is deleted: the next start finds nothing left to move.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import orjson

from sidecar.errors import IndexDamaged, SidecarError
from sidecar.fs import MTIME_GRANULARITY, FileStat, try_file_stat
from sidecar.guarded import TEMPORARY, GuardedFolder
from sidecar.times import DAY

from .database_files import BESIDE, WAL

CATALOG_NAME = "catalog.db"
DAILY_NAME = "daily"
REBUILD = "rebuild"
READY = "ready-"
"""The beginning of the name of the folder in which a rebuilt index waits to be moved. The rest is random, so that a
reader that saw the name a moment ago finds that index or none, never a later one."""
MANIFEST = "swap.json"
SUMMARY = "summary"
"""The folder with the sums of days that are over (`sidecar/analyze/sums.py`)."""
QUARANTINE = "damaged"
"""The folder into which damaged files are moved."""
_OWN_FOLDER = re.compile(
    rf"{DAILY_NAME}|{REBUILD}|{READY}.*|{QUARANTINE}|{SUMMARY}|incoming|requests|compact|going", re.DOTALL
)
_OWN_FILE = re.compile(r"(catalog\.db|swap\.json|running\.json|root\.json|sidecar\.lock|archive\.lock).*", re.DOTALL)
_READY_FOLDER = re.compile(rf"{READY}\w+", re.ASCII)
_DAILY_FILE = re.compile(rf"({DAY.pattern})\.db", re.ASCII)


def is_own_name(name: str) -> bool:
    """Whether the sidecar uses this name, or names like it, directly in an index folder."""
    return bool(_OWN_FILE.fullmatch(name) or _OWN_FOLDER.fullmatch(name))


def catalog_path(folder: Path) -> Path:
    """Where the catalog of the index in `folder` is now. Raises IndexDamaged if `swap.json` is, and SidecarError if it
    cannot be read."""
    swap = _read_manifest(folder)
    return folder / CATALOG_NAME if swap is None else swap.place(folder, CATALOG_NAME)


def daily_paths(folder: Path) -> list[Path]:
    """Where the daily files of the index in `folder` are now, in the order of their days; empty if there is no index.

    Raises SidecarError if the folder cannot be read, which does not mean that it has no days, and IndexDamaged if
    `swap.json` is damaged or the folder of the daily files is a link, which is never followed.
    """
    swap = _read_manifest(folder)
    if swap is not None:
        return [swap.place(folder, f"{DAILY_NAME}/{name}") for name in sorted(swap.daily)]
    try:
        with GuardedFolder.open_to_read(folder) as index, index.folder(DAILY_NAME) as days:
            found = list(filter(_is_daily, days.names()))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(folder / DAILY_NAME, error) from error
    daily = folder / DAILY_NAME
    return [daily / name for name in found]


def quarantined_catalogs(folder: Path) -> list[Path]:
    """The damaged catalogs that were set aside from the index in `folder`; none if they cannot be listed."""
    with suppress(OSError, IndexDamaged), GuardedFolder.open_to_read(folder) as index, index.folder(QUARANTINE) as old:
        return [old.path / name for name in old.names() if name.endswith(CATALOG_NAME)]
    return []


def daily_path(folder: Path, name: str) -> Path | None:
    """Where the daily file with this name is, or would be; None if a swap is in progress and the new index has no such
    file. Raises the errors of `catalog_path`."""
    # Called for every page of entries that is read, so finding out that no swap is in progress must cost very little.
    swap = None if try_file_stat(f"{folder}/{MANIFEST}") is None else _read_manifest(folder)
    if swap is None:
        return Path(f"{folder}/{DAILY_NAME}/{name}")
    return swap.place(folder, f"{DAILY_NAME}/{name}") if name in swap.daily else None


def change_stamp(folder: Path) -> tuple[FileStat | None, ...]:
    """A value that changes with every step of a swap that a reader could notice. It may change at other times too."""
    return try_file_stat(f"{folder}/{MANIFEST}"), try_file_stat(f"{folder}/{CATALOG_NAME}")


def day_stamp(folder: Path, name: str) -> tuple[FileStat | None, ...]:
    """The looks of the daily file of this name (`file_stamp`). Empty if there is no such file."""
    path = daily_path(folder, name)
    return () if path is None else file_stamp(path)


def file_stamp(path: Path) -> tuple[FileStat | None, FileStat | None]:
    """The status of a daily file and of its write-ahead log; changes whenever either does. The files are not opened for
    this: to close a file drops all locks that this process, and so SQLite, has on it."""
    return try_file_stat(path), try_file_stat(f"{path}{WAL}")


def listing_stamp(folder: Path) -> tuple[int, int] | None:
    """A value that stays the same as long as the result of `daily_paths` does; None if that may be changing just now.

    It is the modification time of the folder, which changes with every name that is added or removed. Two changes at
    almost the same moment may leave the same time, so a time of just now proves nothing.
    """
    try:
        # As texts, and the manifest last: this is asked before and after each page that is read.
        status = os.stat(f"{folder}/{DAILY_NAME}")
        if time.time_ns() - status.st_mtime_ns < MTIME_GRANULARITY or os.path.lexists(f"{folder}/{MANIFEST}"):
            return None
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def commit_swap(folder: Path, daily_names: Iterable[str]) -> None:
    """Make the rebuilt index in `rebuild/`, which must be complete and durable, the index; then move it into place.

    `daily_names` are the names of its daily files. The caller holds the root's lock. Raises ConfigError and ForeignFile
    as `GuardedFolder.open_own` does, and OSError.
    """
    ready = f"{READY}{uuid4().hex[:12]}"
    content = orjson.dumps({"folder": ready, "daily": sorted(daily_names)})
    with GuardedFolder.open_own(folder) as index:
        index.rename(REBUILD, ready)
        index.write(MANIFEST, content, durable=True)
        index.sync()
    finish_swap(folder)


def finish_swap(folder: Path) -> None:
    """Finish a swap that was committed, and delete a rebuilt index that was not. The caller holds the root's lock.
    Raises the errors of `commit_swap`."""
    with GuardedFolder.open_own(folder) as index:
        delete_foreign_files(index)
        try:
            swap = _manifest(index)
        except IndexDamaged:
            # It is no longer known which files belong together. Without a catalog the index is rebuilt.
            swap = None
            for name in (CATALOG_NAME, MANIFEST):
                index.delete(name)
        if swap is not None:
            _move_into_place(index, swap)
            index.delete(MANIFEST)
        for name in index.names():
            if name == REBUILD or name.startswith(READY):
                index.delete_all(name)
        index.delete_all(MANIFEST + TEMPORARY)


def _move_into_place(index: GuardedFolder, swap: _Swap) -> None:
    with index.folder(DAILY_NAME, create=True) as daily:
        for name in daily.names():
            if ".db" in name and name.partition(".db")[0] + ".db" not in swap.daily:
                daily.delete(name)
        with suppress(FileNotFoundError), index.folder(swap.folder) as ready:
            with suppress(FileNotFoundError), ready.folder(DAILY_NAME) as ready_daily:
                for name in sorted(swap.daily):
                    _move(ready_daily, name, daily)
            daily.sync()
            _move(ready, CATALOG_NAME, index)
    index.sync()


def _move(source: GuardedFolder, name: str, target: GuardedFolder) -> None:
    """Move a database into its place, unless that has been done."""
    if source.status(name) is None:
        return
    # The old file's write-ahead log is deleted first, because SQLite would take it for one of the new file. The old
    # file may be incomplete without it, but nobody reads that any more.
    for suffix in BESIDE:
        target.delete(name + suffix)
    old = target.status(name)
    # A folder that somebody has put there would not be replaced by the rename.
    if old is not None and stat.S_ISDIR(old.st_mode):
        target.delete(name)
    source.rename(name, name, target)


def delete_foreign_files(index: GuardedFolder) -> None:
    """Delete links, pipes and the like that have the name of one of the sidecar's files or folders: the sidecar makes
    none, and they would keep the index from being opened. The index folder itself may be a link, as its owner likes."""
    for name in filter(is_own_name, index.names()):
        with suppress(OSError, IndexDamaged):
            if _OWN_FOLDER.fullmatch(name) and not stat.S_ISDIR(index.status_of(name).st_mode):
                index.delete(name)
            else:
                _delete_foreign(index, name, depth=2)


def _delete_foreign(folder: GuardedFolder, name: str, depth: int) -> None:
    mode = folder.status_of(name).st_mode
    if stat.S_ISDIR(mode) and depth:
        with folder.folder(name) as below:
            for one in below.names():
                with suppress(OSError, IndexDamaged):
                    _delete_foreign(below, one, depth - 1)
    elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        folder.delete(name)


class _Swap(NamedTuple):
    """A swap that has been committed and is not finished: the content of `swap.json`."""

    folder: str
    daily: frozenset[str]

    def place(self, folder: Path, name: str) -> Path:
        """Where a file of the new index is now."""
        new = folder / self.folder / name
        return new if new.exists() else folder / name


def _read_manifest(folder: Path) -> _Swap | None:
    """The unfinished swap of the index in `folder`, for readers; None if there is none."""
    try:
        with GuardedFolder.open_to_read(folder) as index:
            return _manifest(index)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(folder, error) from error


def _manifest(index: GuardedFolder) -> _Swap | None:
    path = index.path / MANIFEST
    try:
        content = orjson.loads(index.read(MANIFEST))
        name, daily = content["folder"], frozenset(content["daily"])
        # Another user may have written this, so no name in it may lead out of the folder.
        if not _READY_FOLDER.fullmatch(name) or not all(map(_is_daily, daily)):
            raise ValueError(name)
        # Raises if one of the two folders is a link.
        with suppress(FileNotFoundError), index.folder(name) as ready, ready.folder(DAILY_NAME):
            pass
        return _Swap(name, daily)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexDamaged(f"{path} cannot be read") from error
    except OSError as error:
        raise _unreadable(path, error) from error


@lru_cache(maxsize=10_000)
def _is_daily(name: str) -> bool:
    """Whether this is the name of a daily file: its day, and `.db`."""
    day = _DAILY_FILE.fullmatch(name)
    try:
        return day is not None and bool(date.fromisoformat(day[1]))
    except ValueError:
        return False


def _unreadable(path: Path, error: OSError) -> SidecarError:
    return SidecarError(f"{path}: {error.strerror}", hint="make the index folder readable")
