"""Which root an index folder belongs to, if it is not below its root.

An index below the root belongs to that root and moves with it. A folder elsewhere might hold other files, or the index
of another root, and the two would be mixed up. So such a folder says in `root.json` which root it belongs to.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import orjson

from sidecar.config.settings import Settings
from sidecar.errors import ConfigError, ForeignFile
from sidecar.guarded import GuardedFolder
from sidecar.store.layout import CATALOG_NAME

ROOT_FILE = "root.json"
LOCK_FILE = "sidecar.lock"
_MARKS = {CATALOG_NAME, LOCK_FILE, ROOT_FILE}
"""Every index folder that was ever used contains at least one of these."""


def check_index_folder(settings: Settings) -> None:
    """Raise ConfigError if the configured index folder contains other files but no index, or the index of another
    root."""
    if settings.index is None:
        return
    try:
        with GuardedFolder.open_to_read(settings.index) as index:
            names = set(index.names())
            owner = _owner(index)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise ConfigError(f"the index folder {settings.index} is not a directory") from None
    if names - {"lost+found"} and not names & _MARKS:
        raise ConfigError(
            f"{settings.index} holds other files, and no index",
            hint="name an empty folder for the index, or one that does not exist yet",
        )
    if owner is not None and not _is_same(owner, settings.root):
        raise ConfigError(
            f"{settings.index} is the index of {owner}, and not of {settings.root}",
            hint="name another folder with --index; if that root was moved here, delete the folder: it will be rebuilt",
        )


def claim_index_folder(settings: Settings) -> None:
    """Write into an index folder outside the root which root it belongs to. The caller holds the root's lock."""
    if settings.index_path is not None:
        return
    # If the disk is full, the next start writes it.
    with suppress(OSError, ForeignFile), GuardedFolder.open_own(settings.index_folder) as index:
        if _owner(index) is None:
            index.write(ROOT_FILE, orjson.dumps({"root": os.fspath(settings.root)}) + b"\n", durable=True)


def _owner(index: GuardedFolder) -> Path | None:
    try:
        root = str(orjson.loads(index.read(ROOT_FILE))["root"])
    except (OSError, ForeignFile, ValueError, KeyError, TypeError):
        return None
    return None if "\0" in root else Path(root)


def _is_same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
