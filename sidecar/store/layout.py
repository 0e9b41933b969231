"""Where the files of an index are, also while a rebuilt one takes the place of the old.

A rebuild is made in `index/rebuild/`. When it is whole and durable it becomes `index/ready-…/`, and `index/swap.json`,
which names it, is written by one rename. From that moment the new index is the index: readers take each file from
`ready-…/` where it still is, and from its final place where it has been moved already. Crash windows:

- before `swap.json`: the old index stands; the next start throws `rebuild/` and `ready-…/` away.
- after it, at any point of the moving: the next start goes on moving; what was moved is in its place, what was not is
  still in `ready-…/`, and readers find both.
- after the last move, before `swap.json` is gone: the next start finds nothing left to move.
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

from .database_files import BESIDE

CATALOG_NAME = "catalog.db"
DAILY_NAME = "daily"
REBUILD = "rebuild"
READY = "ready-"
"""Begins the name of a rebuilt index that waits to be moved. Each has a name of its own, so that a reader who learned
it a moment ago finds this one or none, never the next that is being made."""
MANIFEST = "swap.json"
QUARANTINE = "damaged"
"""Folder that damaged files are set aside in."""
_OWN_FOLDER = re.compile(rf"{DAILY_NAME}|{REBUILD}|{READY}.*|{QUARANTINE}|incoming|requests|compact|going", re.DOTALL)
_OWN_FILE = re.compile(r"(catalog\.db|swap\.json|running\.json|root\.json|sidecar\.lock|archive\.lock).*", re.DOTALL)
_READY_FOLDER = re.compile(rf"{READY}\w+", re.ASCII)
_DAILY_FILE = re.compile(r"(\d{4}-\d{2}-\d{2})\.db", re.ASCII)


def is_own_name(name: str) -> bool:
    """Whether something of this name in an index folder is the sidecar's."""
    return bool(_OWN_FILE.fullmatch(name) or _OWN_FOLDER.fullmatch(name))


def catalog_path(folder: Path) -> Path:
    """The catalog of the index in `folder` (which is `<root>/index`)."""
    swap = _read_manifest(folder)
    return folder / CATALOG_NAME if swap is None else swap.place(folder, CATALOG_NAME)


def daily_paths(folder: Path) -> list[Path]:
    """The daily files of the index in `folder`, in the order of their days.

    Raises SidecarError where the folder cannot be read: that is not a folder without days. IndexDamaged where it is a
    link: what lies behind that is not ours to read.
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
    """The catalogs that were set aside from the index in `folder`; none where that cannot be told."""
    with suppress(OSError, IndexDamaged), GuardedFolder.open_to_read(folder) as index, index.folder(QUARANTINE) as old:
        return [old.path / name for name in old.names() if name.endswith(CATALOG_NAME)]
    return []


def daily_path(folder: Path, name: str) -> Path | None:
    """Where the daily file of this name is now; None where the index has none."""
    # Asked for every page that is read, so that to learn that no swap is under way has to cost next to nothing.
    swap = None if try_file_stat(f"{folder}/{MANIFEST}") is None else _read_manifest(folder)
    if swap is None:
        return Path(f"{folder}/{DAILY_NAME}/{name}")
    return swap.place(folder, f"{DAILY_NAME}/{name}") if name in swap.daily else None


def change_stamp(folder: Path) -> tuple[FileStat | None, ...]:
    """Changes with every step of a swap that a reader may notice, and now and then without one."""
    return try_file_stat(f"{folder}/{MANIFEST}"), try_file_stat(f"{folder}/{CATALOG_NAME}")


def listing_stamp(folder: Path) -> tuple[int, int] | None:
    """Stays the same as long as `daily_paths` does; None where it may be changing just now.

    A folder bears the time of the last name that came or went in it. A change may hide behind another one of the same
    moment, so that a time of just now tells nothing.
    """
    try:
        status = os.stat(folder / DAILY_NAME)
        if time.time_ns() - status.st_mtime_ns < MTIME_GRANULARITY or (folder / MANIFEST).exists():
            return None
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def commit_swap(folder: Path, daily_names: Iterable[str]) -> None:
    """Declare the rebuilt index, which is whole and durable, to be the index; then move it into place."""
    ready = f"{READY}{uuid4().hex[:12]}"
    content = orjson.dumps({"folder": ready, "daily": sorted(daily_names)})
    with GuardedFolder.open_own(folder) as index:
        index.rename(REBUILD, ready)
        index.write(MANIFEST, content, durable=True)
        index.sync()
    finish_swap(folder)


def finish_swap(folder: Path) -> None:
    """Finish a swap that was committed, and throw away a rebuild that was not. The caller holds the root's lock."""
    with GuardedFolder.open_own(folder) as index:
        delete_foreign_files(index)
        try:
            swap = _manifest(index)
        except IndexDamaged:
            # Which files belong together cannot be told any more. Without a catalog the index is made again.
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
    """Move a database into its place, if that has not been done."""
    if source.status(name) is None:
        return
    # The log of the old file would be taken for one of the new: it goes first. The old file without it is not whole,
    # but nobody looks at it any more.
    for suffix in BESIDE:
        target.delete(name + suffix)
    old = target.status(name)
    if old is not None and stat.S_ISDIR(old.st_mode):
        target.delete(name)  # somebody has put a folder in its place
    source.rename(name, name, target)


def delete_foreign_files(index: GuardedFolder) -> None:
    """Delete what has the place of a file or folder and is neither: a link or a pipe is none of ours, and would keep
    the index from being opened. (The index folder itself may be a link: that is its owner's choice.)"""
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
    """A swap that was committed and is not finished."""

    folder: str
    daily: frozenset[str]

    def place(self, folder: Path, name: str) -> Path:
        """Where a file of the new index is."""
        new = folder / self.folder / name
        return new if new.exists() else folder / name


def _read_manifest(folder: Path) -> _Swap | None:
    """The swap of the index in `folder`, for who only reads it."""
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
        # Whoever wrote this may not have been us: no name in it may lead out of the folder.
        if not _READY_FOLDER.fullmatch(name) or not all(map(_is_daily, daily)):
            raise ValueError(name)
        with suppress(FileNotFoundError), index.folder(name) as ready, ready.folder(DAILY_NAME):
            pass  # neither is a link
        return _Swap(name, daily)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexDamaged(f"{path} cannot be read") from error
    except OSError as error:
        raise _unreadable(path, error) from error


@lru_cache(maxsize=10_000)
def _is_daily(name: str) -> bool:
    """A daily file is named after its day; what has another name is none of ours."""
    day = _DAILY_FILE.fullmatch(name)
    try:
        return day is not None and bool(date.fromisoformat(day[1]))
    except ValueError:
        return False


def _unreadable(path: Path, error: OSError) -> SidecarError:
    return SidecarError(f"{path}: {error.strerror}", hint="make the index folder readable")
