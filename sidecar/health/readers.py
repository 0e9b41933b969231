"""Find readers that keep a write-ahead log from shrinking: while a read transaction is open, SQLite cannot reuse the
log, and every commit makes it longer.

A reader holds a shared lock on one of five bytes of the log's shared memory file (`<name>.db-shm`), and Linux lists the
processes that hold them. On other systems the log is reported without its reader.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sidecar.fs import kernel_locks
from sidecar.store import layout
from sidecar.store.database_files import SHARED_MEMORY, WAL

LARGE_LOG = 64 << 20
"""Bytes of a write-ahead log beyond which it is reported."""

_READ_MARKS = range(123, 128)
"""The bytes of the shared memory file that readers lock: five, from 120 + 3 on (SQLite's WAL-index format)."""


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
            readers = [_named(pid) for pid in sorted(_readers(database)) if pid != own]
            who = f"read by {', '.join(readers)}" if readers else "perhaps a reader in another container"
            yield f"{log} has {size >> 20} MiB and cannot shrink: {who}; end the query, and it shrinks"


def _readers(database: Path) -> set[int]:
    """The processes that have a read transaction open on a database."""
    locks = kernel_locks(database.with_name(database.name + SHARED_MEMORY))
    return {
        lock.pid
        for lock in locks
        if lock.kind == "POSIX" and any(lock.first <= mark <= lock.last for mark in _READ_MARKS)
    }


def _named(pid: int) -> str:
    """A process id with the name of the process, if it is known."""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        return f"process {pid} ({''.join(letter if letter.isprintable() else '?' for letter in name)})"
    return f"process {pid}"
