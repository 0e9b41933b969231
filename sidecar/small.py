"""The small files of an index folder that are no databases: read whole and written whole, and never through a link.

Whoever may write to the index folder may have put something else in their place: a link to a file that is not ours to
read or to overwrite, a pipe that nobody writes to, or a file larger than memory.
"""

from __future__ import annotations

import os
import stat
from contextlib import closing, suppress
from pathlib import Path

LARGEST = 16 << 20
"""Bytes that such a file may have."""

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotSmall(ValueError):
    """It is there, and is none of the files that the sidecar writes: not a regular one, or far too large."""


def read_small(path: Path) -> bytes:
    """What is in the file. Raises NotSmall, and OSError where it is not there or cannot be read."""
    if path.is_symlink():
        raise NotSmall(f"{path} is a link")
    with closing(open(os.open(path, os.O_RDONLY | _FLAGS), "rb", buffering=0)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise NotSmall(f"{path} is not a regular file, or too large")
        return file.read(LARGEST)


def write_small(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Put the content in the place of the file, in one step; `durable`: synced before that. Raises OSError."""
    temporary = path.with_name(f"{path.name}.tmp")
    with suppress(FileNotFoundError):
        temporary.unlink()
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666), "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
