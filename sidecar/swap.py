"""Where the files of an index are, also while a rebuilt one takes the place of the old.

A rebuild is made in `index/rebuild/`. When it is whole and durable, `index/swap.json` is written by one rename, and
from that moment the new index is the index: readers take each file from `rebuild/` where it still is, and from its
final place where it has been moved already. Crash windows:

- before `swap.json`: the old index stands; the next start throws `rebuild/` away.
- after it, at any point of the moving: the next start goes on moving; what was moved is in its place, what was not is
  still in `rebuild/`, and readers find both.
- after the last move, before `swap.json` is gone: the next start finds nothing left to move.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import orjson

from .errors import IndexDamaged, SidecarError

CATALOG_NAME = "catalog.db"
DAILY_NAME = "daily"
REBUILD = "rebuild"
MANIFEST = "swap.json"
ASIDE = "damaged"
"""Folder that damaged files are set aside in."""


def catalog_path(folder: Path) -> Path:
    """The catalog of the index in `folder` (which is `<root>/index`)."""
    return _current(folder, CATALOG_NAME) if _manifest(folder) is not None else folder / CATALOG_NAME


def daily_paths(folder: Path) -> list[Path]:
    """The daily files of the index in `folder`, in the order of their days.

    Raises SidecarError where the folder cannot be read: that is not a folder without days.
    """
    names = _manifest(folder)
    if names is not None:
        return [_current(folder, f"{DAILY_NAME}/{name}") for name in sorted(names)]
    try:
        with os.scandir(folder / DAILY_NAME) as entries:
            found = sorted(entry.name for entry in entries if entry.name.endswith(".db"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(folder / DAILY_NAME, error) from error
    return [folder / DAILY_NAME / name for name in found]


def commit(folder: Path, daily_names: Iterable[str]) -> None:
    """Declare the rebuilt index, which is whole and durable, to be the index; then move it into place."""
    temporary = folder / f"{MANIFEST}.tmp"
    with temporary.open("wb") as file:
        file.write(orjson.dumps({"daily": sorted(daily_names)}))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / MANIFEST)
    sync_folder(folder)
    settle(folder)


def settle(folder: Path) -> None:
    """Finish a swap that was committed, and throw away a rebuild that was not. The caller holds the root's lock."""
    try:
        names = _manifest(folder)
    except IndexDamaged:
        # Which files belong together cannot be told any more. Without a catalog the index is made again.
        names = None
        (folder / CATALOG_NAME).unlink(missing_ok=True)
        (folder / MANIFEST).unlink()
    if names is not None:
        daily = folder / DAILY_NAME
        daily.mkdir(exist_ok=True)
        for old in list(daily.glob("*.db*")):
            if old.name not in names and old.name.partition(".db")[0] + ".db" not in names:
                old.unlink(missing_ok=True)
        for name in [f"{DAILY_NAME}/{name}" for name in sorted(names)] + [CATALOG_NAME]:
            new = folder / REBUILD / name
            if new.exists():
                # The log of the old file would be taken for one of the new: it goes first. The old file without it
                # is not whole, but nobody looks at it any more.
                for suffix in ("-wal", "-shm", "-journal"):
                    (folder / f"{name}{suffix}").unlink(missing_ok=True)
                new.replace(folder / name)
        sync_folder(daily)
        sync_folder(folder)
        (folder / MANIFEST).unlink()
    shutil.rmtree(folder / REBUILD, ignore_errors=True)
    with suppress(OSError):
        (folder / f"{MANIFEST}.tmp").unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _manifest(folder: Path) -> set[str] | None:
    try:
        return set(orjson.loads((folder / MANIFEST).read_bytes())["daily"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise IndexDamaged(f"{folder / MANIFEST} cannot be read") from error
    except OSError as error:
        raise _unreadable(folder / MANIFEST, error) from error


def _unreadable(path: Path, error: OSError) -> SidecarError:
    return SidecarError(f"{path}: {error.strerror}", hint="make the index folder readable")


def _current(folder: Path, name: str) -> Path:
    new = folder / REBUILD / name
    return new if new.exists() else folder / name
