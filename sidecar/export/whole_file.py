"""Files that are there whole, or not at all, whenever a process is killed or the power fails."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sidecar.fs import sync_folder

_LEFT_AFTER = 3600.0
"""Seconds without a change after which an unfinished file was left by a process that was killed."""
_UNFINISHED = ".tmp"


class Draft:
    """A file that is being written, under a name that no reader takes for the finished file."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self._path = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}{_UNFINISHED}")
        self.file: BinaryIO = open(self._path, "xb")  # noqa: SIM115

    def finish(self) -> os.stat_result:
        """Make the file durable, and then give it its name. Returns its status."""
        self.file.flush()
        os.fsync(self.file.fileno())
        status = os.fstat(self.file.fileno())
        self.file.close()
        self._path.replace(self.target)
        sync_folder(self.target.parent)
        return status

    def discard(self) -> None:
        """Close and delete the file, unless it has been finished."""
        with suppress(OSError):
            self.file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def drafted(target: Path) -> Iterator[Draft]:
    """A draft of a file in a folder that exists, during a `with` statement; discarded unless it is finished there.
    Drafts of processes that were killed are deleted first."""
    for left in target.parent.glob(f".{target.name}.*{_UNFINISHED}"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_AFTER:
                left.unlink()
    draft = Draft(target)
    try:
        yield draft
    finally:
        draft.discard()


def write_whole(target: Path, data: bytes) -> None:
    """Write a small file."""
    with drafted(target) as draft:
        draft.file.write(data)
        draft.finish()
