"""Read a record by its pointer, from the log file or from the archive. All records are read this way.

A log that was archived and then continued is one log: its archived bytes come first, then those of the new file. So the
offset of an entry in the new file counts the archived bytes too, and no two entries of a log share an offset.

The log file is tried first, at the offset itself. The checksum tells whether these are the right bytes; if they are,
the catalog need not be queried.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from sidecar.errors import ArchiveDamaged, SourceChanged, SourceError, SourceMissing
from sidecar.fs import FileStat, resolve_under
from sidecar.records import Extent

from .archive_file import Archive
from .tail import NotAFile, open_regular

_UNREADABLE = "check the file and its permissions"

ExtentsOf = Callable[[str], tuple[Extent, ...]]
"""A function from the path of a log to its archived extents."""


@dataclass(slots=True)
class LogReader:
    """One log, open for reading from its file and from the archive."""

    path: str
    root: Path
    _fd: int | None
    _size: int
    _archive: Archive
    _extents_of: ExtentsOf

    def read(self, offset: int, length: int, checksum: int) -> bytes:
        """The `length` bytes of the record at an offset, whose CRC-32 is `checksum`.

        Raises SourceMissing (in the archive ArchiveMissing) if they are gone, SourceChanged (ArchiveDamaged) if they
        differ, and SourceError if they cannot be read.
        """
        data = self._in_file(offset, length)
        if _matches(data, length, checksum):
            return data
        where = f"{self.path}, byte {offset}"
        start = 0
        for extent in self._extents_of(self.path):
            if offset < start + extent.size:
                data = self._archive.read(extent.file, extent.at + offset - start, min(length, extent.size))
                if _matches(data, length, checksum):
                    return data
                file = self._archive.folder / extent.file
                raise ArchiveDamaged(f"{where}: {file} contains other bytes than those that were indexed")
            start += extent.size
        if self._fd is None:
            raise SourceMissing(f"{self.path} is gone from {self.root}")
        data = self._in_file(offset - start, length) if start else data
        if not _matches(data, length, checksum):
            raise SourceChanged(f"{where}: the bytes are no longer those that were indexed")
        return data

    def is_unchanged_since(self, looks: FileStat | None) -> bool:
        """Whether its file is the one that looked so."""
        return self._fd is not None and FileStat.of(os.fstat(self._fd)) == looks

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Read bytes of its file, unchecked, from an offset on. Returns their number: less than the size of the buffer
        at the end of the file, and 0 if they cannot be read."""
        try:
            return 0 if self._fd is None else os.preadv(self._fd, [buffer], offset)
        except OSError:
            return 0

    def stretch(self, offset: int, length: int, *, in_file: bool) -> bytes:
        """Bytes of the log from its file or from the archive, unchecked: fewer than `length`, or others, where they are
        gone or cannot be read. `in_file`: nothing of the log is known to be in the archive."""
        start = 0
        pieces = []
        for extent in () if in_file else self._extents_of(self.path):
            if length and start <= offset < start + extent.size:
                part = min(length, start + extent.size - offset)
                with suppress(SourceError):
                    pieces.append(self._archive.read(extent.file, extent.at + offset - start, part))
                offset, length = offset + part, length - part
            start += extent.size
        if length:
            with suppress(SourceError):
                pieces.append(self._in_file(offset - start if offset >= start else offset, length))
        return b"".join(pieces)

    def _in_file(self, offset: int, length: int) -> bytes:
        if self._fd is None:
            return b""
        # The length is not trusted either: it may be larger than the memory.
        try:
            return os.pread(self._fd, min(length, self._size), offset)
        except OSError as error:
            raise SourceError(f"{self.path}, byte {offset}: {error.strerror}", hint=_UNREADABLE) from error


def _matches(data: bytes, length: int, checksum: int) -> bool:
    return len(data) == length and crc32(data) == checksum


@contextmanager
def open_log(root: Path, path: str, archive: Archive, extents_of: ExtentsOf) -> Iterator[LogReader]:
    """A log, open for reading during a `with` statement; its file need not exist. Raises UnsafePath if its path leads
    out of the root, and SourceError if its file cannot be read."""
    file = resolve_under(root, path)
    with ExitStack() as stack:
        fd, size = None, 0
        try:
            fd, status = stack.enter_context(open_regular(file))
            size = status.st_size
        except FileNotFoundError:
            # It may be in the archive.
            pass
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}", hint=_UNREADABLE) from error
        except NotAFile as error:
            raise SourceError(f"{path} is not a regular file", hint=_UNREADABLE) from error
        yield LogReader(path, root, fd, size, archive, extents_of)
