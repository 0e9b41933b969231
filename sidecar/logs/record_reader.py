"""From a pointer to its bytes: in the log file, or in the archive, or neither and why. There is no other way to read.

A log that was archived and goes on is one log: its archived bytes first, then those of the new file. So an entry of
the new file has an offset behind all archived bytes, and no two entries of a log share one.

The log file is tried first, at the offset itself: nothing is asked of the catalog for what lies there, and a checksum
says whether these are the bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from sidecar.errors import ArchiveDamaged, SourceChanged, SourceError, SourceMissing
from sidecar.fs import resolve_under
from sidecar.records import Extent

from .archive_file import Archive
from .tail import NotAFile, open_regular

_UNREADABLE = "check the file and its permissions"

ExtentsOf = Callable[[str], tuple[Extent, ...]]
"""From a log to what of it lies in the archive."""


@dataclass(slots=True)
class LogReader:
    """One log, open for reading wherever its bytes are."""

    path: str
    root: Path
    _fd: int | None
    _size: int
    _archive: Archive
    _parts: ExtentsOf

    def read(self, offset: int, length: int, checksum: int) -> bytes:
        """The bytes of the record at an offset.

        Raises SourceMissing (ArchiveMissing) where they are gone, SourceChanged (ArchiveDamaged) where they are others.
        """
        data = self._in_file(offset, length)
        if _fits(data, length, checksum):
            return data
        where = f"{self.path}, byte {offset}"
        parts = self._parts(self.path)
        begin = 0
        for part in parts:
            if offset < begin + part.size:
                data = self._archive.read(part.file, part.at + offset - begin, min(length, part.size))
                if _fits(data, length, checksum):
                    return data
                raise ArchiveDamaged(f"{where}: {self._archive.folder / part.file} holds other bytes than were indexed")
            begin += part.size
        if self._fd is None:
            raise SourceMissing(f"{self.path} is gone from {self.root}")
        data = self._in_file(offset - begin, length) if begin else data
        if not _fits(data, length, checksum):
            raise SourceChanged(f"{where}: the bytes are no longer those that were indexed")
        return data

    def _in_file(self, offset: int, length: int) -> bytes:
        if self._fd is None:
            return b""
        # A length is not trusted either: it may ask for more memory than there is.
        try:
            return os.pread(self._fd, min(length, self._size), offset)
        except OSError as error:
            raise SourceError(f"{self.path}, byte {offset}: {error}", hint=_UNREADABLE) from error


def _fits(data: bytes, length: int, checksum: int) -> bool:
    return len(data) == length and crc32(data) == checksum


@contextmanager
def open_log(root: Path, path: str, archive: Archive, parts: ExtentsOf) -> Iterator[LogReader]:
    """Open a log. Raises UnsafePath where its path leaves the root, SourceError where its file cannot be read."""
    file = resolve_under(root, path)
    with ExitStack() as stack:
        fd, size = None, 0
        try:
            fd, status = stack.enter_context(open_regular(file))
            size = status.st_size
        except FileNotFoundError:
            pass  # it may be in the archive
        except (OSError, NotAFile) as error:
            raise SourceError(f"{path}: {error}", hint=_UNREADABLE) from error
        yield LogReader(path, root, fd, size, archive, parts)
