"""Find readers that keep a write-ahead log from shrinking: while a read transaction is open, SQLite cannot reuse the
log, and every commit makes it longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sidecar.store import layout
from sidecar.store.database_files import WAL
from sidecar.store.holders import named, readers_of

LARGE_LOG = 64 << 20
"""Bytes of a write-ahead log beyond which it is reported."""


def held_logs(index_folder: Path, own: int | None) -> Iterator[str]:
    """One sentence per write-ahead log of more than LARGE_LOG bytes, with the processes that read it.

    `own`, the sidecar's process id, is left out. Raises IndexDamaged, and SidecarError if the index cannot be read.
    """
    for database in (layout.catalog_path(index_folder), *layout.daily_paths(index_folder)):
        log = database.with_name(database.name + WAL)
        size = 0
        with suppress(OSError):
            size = os.stat(log, follow_symlinks=False).st_size
        if size > LARGE_LOG:
            readers = [named(pid) for pid in sorted(readers_of(database)) if pid != own]
            who = f"read by {', '.join(readers)}" if readers else "perhaps a reader in another container"
            yield f"{log} has {size >> 20} MiB and cannot shrink: {who}; end the query, and it shrinks"
