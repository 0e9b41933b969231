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
import shutil
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
from sidecar.fs import MTIME_GRANULARITY, read_small, sync_folder, write_small

CATALOG_NAME = "catalog.db"
DAILY_NAME = "daily"
REBUILD = "rebuild"
READY = "ready-"
"""Begins the name of a rebuilt index that waits to be moved. Each has a name of its own, so that a reader who learned
it a moment ago finds this one or none, never the next that is being made."""
MANIFEST = "swap.json"
QUARANTINE = "damaged"
"""Folder that damaged files are set aside in."""
_READY_FOLDER = re.compile(rf"{READY}\w+", re.ASCII)
_DAILY_FILE = re.compile(r"(\d{4}-\d{2}-\d{2})\.db", re.ASCII)


def catalog_path(folder: Path) -> Path:
    """The catalog of the index in `folder` (which is `<root>/index`)."""
    swap = _manifest(folder)
    return folder / CATALOG_NAME if swap is None else swap.place(folder, CATALOG_NAME)


def daily_paths(folder: Path) -> list[Path]:
    """The daily files of the index in `folder`, in the order of their days.

    Raises SidecarError where the folder cannot be read: that is not a folder without days. IndexDamaged where it is a
    link: what lies behind that is not ours to read.
    """
    swap = _manifest(folder)
    if swap is not None:
        return [swap.place(folder, f"{DAILY_NAME}/{name}") for name in sorted(swap.daily)]
    try:
        if (folder / DAILY_NAME).is_symlink():
            raise IndexDamaged(f"{folder / DAILY_NAME} is a link")
        with os.scandir(folder / DAILY_NAME) as entries:
            found = sorted(entry.name for entry in entries if _is_daily(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(folder / DAILY_NAME, error) from error
    daily = folder / DAILY_NAME
    return [daily / name for name in found]


def daily_path(folder: Path, name: str) -> Path | None:
    """Where the daily file of this name is now; None where the index has none."""
    # Asked for every page that is read, so that to learn that no swap is under way has to cost next to nothing.
    swap = None if _sign(f"{folder}/{MANIFEST}") is None else _manifest(folder)
    if swap is None:
        return Path(f"{folder}/{DAILY_NAME}/{name}")
    return swap.place(folder, f"{DAILY_NAME}/{name}") if name in swap.daily else None


def change_stamp(folder: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """Changes with every step of a swap that a reader may notice, and now and then without one."""
    return _sign(f"{folder}/{MANIFEST}"), _sign(f"{folder}/{CATALOG_NAME}")


def _sign(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


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
    (folder / REBUILD).replace(folder / ready)
    content = orjson.dumps({"folder": ready, "daily": sorted(daily_names)})
    write_small(folder / MANIFEST, content, durable=True)
    sync_folder(folder)
    finish_swap(folder)


def finish_swap(folder: Path) -> None:
    """Finish a swap that was committed, and throw away a rebuild that was not. The caller holds the root's lock."""
    remove_foreign_files(folder)
    try:
        swap = _manifest(folder)
    except IndexDamaged:
        # Which files belong together cannot be told any more. Without a catalog the index is made again.
        swap = None
        for path in (folder / CATALOG_NAME, folder / MANIFEST):
            _remove(path)
    if swap is not None:
        names = swap.daily
        daily = folder / DAILY_NAME
        daily.mkdir(exist_ok=True)
        for old in list(daily.glob("*.db*")):
            if old.name not in names and old.name.partition(".db")[0] + ".db" not in names:
                _remove(old)
        for name in [f"{DAILY_NAME}/{name}" for name in sorted(names)] + [CATALOG_NAME]:
            new = folder / swap.folder / name
            if new.exists():
                # The log of the old file would be taken for one of the new: it goes first. The old file without it
                # is not whole, but nobody looks at it any more.
                for suffix in ("-wal", "-shm", "-journal"):
                    _remove(folder / f"{name}{suffix}")
                _remove(folder / name, only_folder=True)
                new.replace(folder / name)
        sync_folder(daily)
        sync_folder(folder)
        _remove(folder / MANIFEST)
    for left in (folder / REBUILD, *folder.glob(f"{READY}*")):
        shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):
        (folder / f"{MANIFEST}.tmp").unlink()


def remove_foreign_files(folder: Path) -> None:
    """Remove what is neither file nor folder: a link or a pipe in an index folder is none of ours, and would have us
    read, write, move or wait elsewhere. (The folder itself may be a link: that is its owner's choice.)"""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            with suppress(FileNotFoundError):
                mode = path.lstat().st_mode
                if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                    path.unlink()


def _remove(path: Path, *, only_folder: bool = False) -> None:
    """Remove a file, or what somebody has put in its place."""
    if path.is_dir():
        shutil.rmtree(path)
    elif not only_folder:
        path.unlink(missing_ok=True)


class _Swap(NamedTuple):
    """A swap that was committed and is not finished."""

    folder: str
    daily: frozenset[str]

    def place(self, folder: Path, name: str) -> Path:
        """Where a file of the new index is."""
        new = folder / self.folder / name
        return new if new.exists() else folder / name


def _manifest(folder: Path) -> _Swap | None:
    try:
        content = orjson.loads(read_small(folder / MANIFEST))
        name, daily = content["folder"], frozenset(content["daily"])
        # Whoever wrote this may not have been us: no name in it may lead out of the folder.
        if not _READY_FOLDER.fullmatch(name) or not all(map(_is_daily, daily)):
            raise ValueError(name)
        if (folder / name).is_symlink() or (folder / name / DAILY_NAME).is_symlink():
            raise ValueError(name)
        return _Swap(name, daily)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexDamaged(f"{folder / MANIFEST} cannot be read") from error
    except OSError as error:
        raise _unreadable(folder / MANIFEST, error) from error


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
