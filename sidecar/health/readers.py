"""Readers that hold a write-ahead log: as long as a read transaction is open, SQLite cannot reuse the log behind it,
and it grows with every commit.

A reader holds a shared lock on one of five bytes of the log's shared memory file (`<name>.db-shm`); the kernel lists
who holds which (`/proc/locks`). On other systems nothing is listed, and the log is named without its reader.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sidecar.fs import kernel_locks
from sidecar.store import layout

LARGE_LOG = 64 << 20
"""Bytes of a write-ahead log beyond which it is reported."""

_READ_MARKS = range(123, 128)
"""Bytes of the shared memory file that readers lock (SQLite's `walIndex` format: 120 + 3, five of them)."""


def held_logs(index_folder: Path, own: int | None) -> Iterator[str]:
    """A sentence for each write-ahead log that has grown large, with the processes that hold it.

    `own` is the sidecar's process, which is never the reason. Raises IndexDamaged, OSError never.
    """
    for database in (layout.catalog_path(index_folder), *layout.daily_paths(index_folder)):
        log = database.with_name(f"{database.name}-wal")
        size = 0
        with suppress(OSError):
            size = os.stat(log, follow_symlinks=False).st_size
        if size > LARGE_LOG:
            readers = [_named(pid) for pid in sorted(_readers(database)) if pid != own]
            who = f"read by {', '.join(readers)}" if readers else "perhaps a reader in another container"
            yield f"{log} has {size >> 20} MiB and cannot shrink: {who}; end the query, and it shrinks"


def _readers(database: Path) -> set[int]:
    """Processes that are in a read transaction on a database."""
    locks = kernel_locks(database.with_name(f"{database.name}-shm"))
    return {
        lock.pid
        for lock in locks
        if lock.kind == "POSIX" and any(lock.first <= mark <= lock.last for mark in _READ_MARKS)
    }


def _named(pid: int) -> str:
    """A process with its name, as far as it can be told."""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        return f"process {pid} ({''.join(letter if letter.isprintable() else '?' for letter in name)})"
    return f"process {pid}"
