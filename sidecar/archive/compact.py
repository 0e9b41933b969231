"""Compact copies of old daily files, and the Bloom filters of their days.

The pages of a daily file that grew row by row are half empty. A copy that `VACUUM INTO` makes is dense, and it is in
rollback mode, so that reading it needs no write access. It is made through a reader's connection, which does not block
a running sidecar. The index owner replaces the daily file by its copy only if nothing has been written to it since.

There is no ANALYZE: its statistics made none of the library's queries faster or slower (measured on 200,000 entries).
"""

from __future__ import annotations

import os
import sqlite3
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from sidecar.errors import SidecarError
from sidecar.guarded import GuardedFolder
from sidecar.indexer.day_files import stats_of
from sidecar.indexer.day_writer import STATE
from sidecar.query.catalog_reader import CatalogReader
from sidecar.query.day_reader import DayReader
from sidecar.records import Compacted
from sidecar.service.requests import COMPACT_FOLDER
from sidecar.store import layout
from sidecar.store.bloom import PENDING, build_filter
from sidecar.store.daily_schema import WAITS
from sidecar.store.database_files import BESIDE, check_to_write, uri
from sidecar.times import day_of

_TEXTS = "SELECT text FROM name UNION SELECT text FROM correlation UNION SELECT stem FROM source"
_PENDING = f"SELECT 1 FROM entry WHERE {WAITS} LIMIT 1"


def days_to_compact(index_folder: Path, catalog: CatalogReader, age: float, now: float) -> list[Path]:
    """The daily files of days that ended at least `age` seconds before `now` and have no compact copy yet."""
    done = {day for day, is_compact in catalog.filtered().items() if is_compact}
    limit = min(day_of(now - age), day_of(now))
    return [path for path in layout.daily_paths(index_folder) if path.stem < limit and path.stem not in done]


def compact_copy(index_folder: Path, path: Path, checkpoint: int) -> Compacted | None:
    """Make a compact copy of the daily file `path`, durably, in the index folder. None if the daily file has changed
    meanwhile, or has rows that the last checkpoint does not cover.

    `checkpoint` is the number of that checkpoint, read from the catalog before the call. Raises OSError, sqlite3.Error,
    and ForeignFile if the daily file is not a regular file of ours.
    """
    with GuardedFolder.open_own(index_folder) as index, index.folder(COMPACT_FOLDER, create=True) as folder:
        return _copied(folder, path, checkpoint)


def _copied(folder: GuardedFolder, path: Path, checkpoint: int) -> Compacted | None:
    made = folder.path / path.name
    for suffix in ("", *BESIDE):
        folder.delete(path.name + suffix)
    # empty: SQLite would follow a link that is put there.
    os.close(folder.create(path.name))
    check_to_write(folder, path.name)
    # Raises unless this is a daily file, and nothing in it runs code.
    with closing(DayReader(path)):
        pass
    with closing(sqlite3.connect(uri(path, "mode=ro"), uri=True, isolation_level=None)) as day:
        state = [*day.execute(STATE).fetchone(), *stats_of(path)]
        if state[0] > checkpoint:
            return None
        day.execute("VACUUM INTO ?", (str(made),))
        if [*day.execute(STATE).fetchone(), *stats_of(path)] != state:
            return None
    check_to_write(folder, path.name)
    with closing(sqlite3.connect(uri(made, "mode=rw"), uri=True, isolation_level=None)) as day:
        blocks = build_filter(_texts(day))
        day.execute("PRAGMA journal_mode = delete")
    folder.sync_file(path.name)
    return Compacted(path.stem, f"{COMPACT_FOLDER}/{path.name}", state, [b64encode(block).decode() for block in blocks])


def _texts(day: sqlite3.Connection) -> Iterator[str]:
    for (text,) in day.execute(_TEXTS):
        yield text
    if day.execute(_PENDING).fetchone():
        yield PENDING


def delete_stale_copies(index_folder: Path) -> None:
    """Delete the copies that no index owner has used."""
    with suppress(OSError, SidecarError), GuardedFolder.open_own(index_folder) as index:
        index.delete_all(COMPACT_FOLDER)
