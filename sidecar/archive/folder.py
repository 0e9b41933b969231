"""Write to the archive folder of a root: claim it, and create, sync and delete its files. Everything is done by
descriptor, so that nothing that others put there leads elsewhere (`guarded.py`).

Only archive files, which are below `sessions/` and `events/`, and `archive.json` are ever touched, because the folder
may contain other files as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import orjson

from sidecar.config.settings import Settings
from sidecar.errors import ConfigError
from sidecar.fs import to_text
from sidecar.guarded import GuardedFolder
from sidecar.logs.archive_file import OWNER_FILE, SUFFIX, Archive, is_of, owner_of, place_of

UNFINISHED = ".part"
"""The suffix of an archive that is being written."""


def check_archive_folder(settings: Settings) -> None:
    """Raise ConfigError if the archive folder belongs to another root, is in an impossible place, or cannot be recorded
    as text."""
    folder = settings.archive
    if folder == settings.root or folder.is_relative_to(settings.index_folder):
        raise ConfigError(
            f"{folder} cannot be the archive of {settings.root}",
            hint="set `archive` in config.yaml to a folder that is neither the root nor in the index folder",
        )
    for path in (settings.root, settings.index_folder, folder):
        # The archive, the index and requests store the path as text.
        if to_text(os.fspath(path)) != os.fspath(path):
            raise ConfigError(f"the name of {path} is not UTF-8", hint="rename it, or do without an archive")
    named = owner_of(folder)
    if named is not None and named.exists() and not is_of(folder, settings.root):
        raise ConfigError(
            f"{folder} is the archive of {named}", hint="set `archive` in config.yaml to a folder of its own"
        )


def claim_archive_folder(settings: Settings) -> None:
    """Create the archive folder, and durably record the root in it. Raises ConfigError, ForeignFile and OSError."""
    check_archive_folder(settings)
    settings.archive.mkdir(parents=True, exist_ok=True)
    if not is_of(settings.archive, settings.root):
        with GuardedFolder.open(settings.archive) as folder:
            folder.write(OWNER_FILE, orjson.dumps({"root": os.fspath(settings.root)}) + b"\n", durable=True)
            folder.sync()


@contextmanager
def folder_for(archive: Archive, file: str) -> Iterator[GuardedFolder]:
    """The folder of an archive file, created if it does not exist, and open during a `with` statement. Raises
    ForeignFile if there is something else with its name, UnsafePath and OSError."""
    with GuardedFolder.open(archive.folder) as top, top.below(place_of(file)[:-1], create=True) as folder:
        yield folder


def make_durable(archive: Archive, files: Iterable[str]) -> None:
    """Sync the folders of archive files, so that their names survive a power cut. Raises OSError, ForeignFile."""
    places = [place_of(file) for file in files]
    folders = {tuple(place[:length]) for place in places for length in range(len(place))}
    with GuardedFolder.open(archive.folder) as top:
        # A folder comes before the one that contains its name.
        for names in sorted(folders, key=len, reverse=True):
            with top.below(names) as folder:
                folder.sync()


def delete_archive(archive: Archive, file: str) -> None:
    """Delete an archive file if it exists, and then its folder if that is empty. Raises OSError, ForeignFile."""
    *names, name = place_of(file)
    with suppress(FileNotFoundError), GuardedFolder.open(archive.folder) as top, top.below(names[:-1]) as above:
        with above.folder(names[-1]) as folder:
            folder.delete(name)
        above.delete_empty(names[-1])


def delete_unfinished(archive: Archive) -> None:
    """Delete the unfinished archives that a killed run has left. Raises OSError, SidecarError."""
    for file in archive.files(SUFFIX + UNFINISHED):
        with folder_for(archive, file) as folder:
            folder.delete(place_of(file)[-1])
