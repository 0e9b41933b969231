"""Which processes hold SQLite's locks on an index file, as Linux lists them; on other systems nobody is named.

The numbers are those of SQLite's file format: of the database, the bytes from 0x40000000 on; of the shared memory
beside it (`<name>.db-shm`), 120 to 122 for writing, checkpoints and recovery, and 123 to 127 for reading. Who may only
read a file can hold a shared lock on any of these bytes, which keeps a writer from it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sidecar.fs import kernel_locks

from .database_files import SHARED_MEMORY

_WRITE_BYTES = range(120, 123)
_READ_MARKS = range(123, 128)
_PENDING_AND_RESERVED = range(0x40000000, 0x40000002)


def readers_of(database: Path) -> set[int]:
    """The processes that have a read transaction open on a database."""
    return _on(database.with_name(database.name + SHARED_MEMORY), _READ_MARKS)


def blockers_of(database: Path) -> set[int]:
    """The processes that hold what a writer of a database needs, this one perhaps among them."""
    return _on(database, _PENDING_AND_RESERVED) | _on(database.with_name(database.name + SHARED_MEMORY), _WRITE_BYTES)


def _on(path: Path, wanted: range) -> set[int]:
    locks = [lock for lock in kernel_locks(path) if lock.kind in ("POSIX", "OFDLCK")]
    return {lock.pid for lock in locks if any(lock.first <= byte <= lock.last for byte in wanted)}


def named(pid: int) -> str:
    """A process id with the name of the process, if it is known."""
    if pid <= 0:
        return "a process that the kernel does not name"
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        return f"process {pid} ({''.join(letter if letter.isprintable() else '?' for letter in name)})"
    return f"process {pid}"
