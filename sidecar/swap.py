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
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import orjson

from .errors import IndexDamaged, SidecarError

CATALOG_NAME = "catalog.db"
DAILY_NAME = "daily"
REBUILD = "rebuild"
READY = "ready-"
"""Begins the name of a rebuilt index that waits to be moved. Each has a name of its own, so that a reader who learned
it a moment ago finds this one or none, never the next that is being made."""
MANIFEST = "swap.json"
SETTLED = 100_000_000
"""Nanoseconds after which a time of change tells one change from the next."""

ASIDE = "damaged"
"""Folder that damaged files are set aside in."""


def catalog_path(folder: Path) -> Path:
    """The catalog of the index in `folder` (which is `<root>/index`)."""
    swap = _manifest(folder)
    return folder / CATALOG_NAME if swap is None else swap.place(folder, CATALOG_NAME)


def daily_paths(folder: Path) -> list[Path]:
    """The daily files of the index in `folder`, in the order of their days.

    Raises SidecarError where the folder cannot be read: that is not a folder without days.
    """
    swap = _manifest(folder)
    if swap is not None:
        return [swap.place(folder, f"{DAILY_NAME}/{name}") for name in sorted(swap.daily)]
    try:
        with os.scandir(folder / DAILY_NAME) as entries:
            found = sorted(entry.name for entry in entries if entry.name.endswith(".db"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(folder / DAILY_NAME, error) from error
    daily = folder / DAILY_NAME
    return [daily / name for name in found]


def listing_stamp(folder: Path) -> tuple[int, int] | None:
    """Stays the same as long as `daily_paths` does; None where it may be changing just now.

    A folder bears the time of the last name that came or went in it. A change may hide behind another one of the same
    moment, so that a time of just now tells nothing.
    """
    try:
        status = os.stat(folder / DAILY_NAME)
        if time.time_ns() - status.st_mtime_ns < SETTLED or (folder / MANIFEST).exists():
            return None
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def commit(folder: Path, daily_names: Iterable[str]) -> None:
    """Declare the rebuilt index, which is whole and durable, to be the index; then move it into place."""
    ready = f"{READY}{uuid4().hex[:12]}"
    (folder / REBUILD).replace(folder / ready)
    temporary = folder / f"{MANIFEST}.tmp"
    with temporary.open("wb") as file:
        file.write(orjson.dumps({"folder": ready, "daily": sorted(daily_names)}))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / MANIFEST)
    sync_folder(folder)
    settle(folder)


def settle(folder: Path) -> None:
    """Finish a swap that was committed, and throw away a rebuild that was not. The caller holds the root's lock."""
    try:
        swap = _manifest(folder)
    except IndexDamaged:
        # Which files belong together cannot be told any more. Without a catalog the index is made again.
        swap = None
        (folder / CATALOG_NAME).unlink(missing_ok=True)
        (folder / MANIFEST).unlink()
    if swap is not None:
        names = swap.daily
        daily = folder / DAILY_NAME
        daily.mkdir(exist_ok=True)
        for old in list(daily.glob("*.db*")):
            if old.name not in names and old.name.partition(".db")[0] + ".db" not in names:
                old.unlink(missing_ok=True)
        for name in [f"{DAILY_NAME}/{name}" for name in sorted(names)] + [CATALOG_NAME]:
            new = folder / swap.folder / name
            if new.exists():
                # The log of the old file would be taken for one of the new: it goes first. The old file without it
                # is not whole, but nobody looks at it any more.
                for suffix in ("-wal", "-shm", "-journal"):
                    (folder / f"{name}{suffix}").unlink(missing_ok=True)
                new.replace(folder / name)
        sync_folder(daily)
        sync_folder(folder)
        (folder / MANIFEST).unlink()
    for left in (folder / REBUILD, *folder.glob(f"{READY}*")):
        shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):
        (folder / f"{MANIFEST}.tmp").unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
        content = orjson.loads((folder / MANIFEST).read_bytes())
        name = content["folder"]
        if not name.startswith(READY) or "/" in name:
            raise ValueError(name)
        return _Swap(name, frozenset(content["daily"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexDamaged(f"{folder / MANIFEST} cannot be read") from error
    except OSError as error:
        raise _unreadable(folder / MANIFEST, error) from error


def _unreadable(path: Path, error: OSError) -> SidecarError:
    return SidecarError(f"{path}: {error.strerror}", hint="make the index folder readable")
