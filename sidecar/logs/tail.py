"""Read the lines that were appended to a file: a file and a cursor in, whole lines and the next cursor out.

A cursor says how far a file has been read and how to recognize it: by device, inode, and fingerprints of its first
bytes and of the bytes just before the position. These tell a file that was appended to from one that was truncated,
truncated and grown past the old position, replaced, or given the inode of a deleted one.

Nothing is kept open between two reads, and at most `CHUNK_BYTES` are read at a time, unless one line is longer.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, count
from pathlib import Path
from typing import NamedTuple

from sidecar.errors import SourceError
from sidecar.fs import FileStat, fingerprint
from sidecar.records import NOT_UTF8, Line, Rejected

from .padding import Trimmed, is_not_utf8, may_be_padded, next_data, trim, trim_range

CHUNK_BYTES = 1 << 20
"""Bytes read from a file at a time, so that no file starves another."""

FINGERPRINT_BYTES = 1024
"""The number of bytes at the head, and of bytes before the position, by which a file is recognized."""

LONG_LINE = 1 << 16
"""From this many bytes on, an unfinished line is remembered to contain no LF. It must be less than `CHUNK_BYTES`: a
line that fills a chunk without being remembered would be searched from its start forever."""


# O_NOFOLLOW: a link below the root would index the same bytes twice, or bytes from outside it. O_NONBLOCK: opening a
# FIFO without a writer must not hang.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class NotAFile(SourceError):
    """The path is not a regular file."""

    hint = "links, pipes, sockets and folders are not indexed"


class Cursor(NamedTuple):
    """How far a file was read, and what it looked like then."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    """Size and modification time at the last read: while they are unchanged, there is nothing new to read."""
    offset: int
    """Bytes consumed; always just after an LF, or at the end of an event file or of a last line without LF
    (`logs/last_line.py`)."""
    lines: int
    """Lines consumed."""
    head: int
    tail: int
    """Fingerprints of the first and the last consumed bytes; for an event file `head` is that of its one line."""
    scanned: int = 0
    """The number of bytes after `offset` that are known to contain no LF. A hint, never saved."""
    searched: int = 0
    """The fingerprint of some of these bytes, if there are at least `LONG_LINE`; else 0."""
    written: int = 0
    """How many of these bytes there are up to the last one that is not a NUL."""


NEW = Cursor(0, 0, 0, 0, 0, 0, 0, 0)
"""The cursor of a file that has never been read."""


class ReadResult(NamedTuple):
    """The lines of one read, and the next cursor."""

    cursor: Cursor
    lines: list[Line]
    rejected: list[Rejected]
    more: bool
    """Whether the chunk was full, so that the file should be read again without waiting for an event."""
    padding: int = 0
    """The number of bytes of padding of these lines."""
    changed: bool = False
    """Whether the bytes that were read earlier have changed. If so, start again from `NEW`, and drop the rows that were
    derived from them."""


def read_lines(path: str | Path, cursor: Cursor, max_line_bytes: int, limit: int | None = None) -> ReadResult:
    """Read the next whole lines of a growing file, from the cursor on and no further than byte `limit`.

    Raises OSError if the file cannot be opened or read, and NotAFile if it is not a regular file.
    """
    with open_regular(path) as (fd, status):
        now = FileStat.of(status)
        if cursor.scanned and not _is_still_scanned(cursor, now):
            cursor = _unsearched(cursor)
        start = cursor.offset + cursor.scanned
        # Asking for no more bytes than there are avoids a large buffer for a small file.
        end = status.st_size if limit is None else min(limit, status.st_size)
        data = os.pread(fd, max(0, min(CHUNK_BYTES, end - start)), start)
        # The bytes before the position are checked after the read, not before it. Otherwise a file that is truncated
        # and rewritten between the two would pass, and its new bytes would be taken for a continuation of the old.
        if not is_same(fd, cursor):
            return ReadResult(cursor, [], [], more=False, changed=True)
        seen = Cursor(*now, *cursor[4:])
        if cursor.scanned and known_by(fd, cursor.offset, cursor.scanned, cursor.written) != cursor.searched:
            return ReadResult(_unsearched(seen), [], [], more=True)
        more = len(data) == CHUNK_BYTES
        last = data.rfind(b"\n")
        if last < 0:
            reached = start + len(data)
            # A hole may be larger than everything that was written.
            hole = next_data(fd, reached, end) - reached if more else 0
            return ReadResult(_searched(fd, seen, data, hole), [], [], more)
        position = start + last + 1
        window = min(FINGERPRINT_BYTES, position)
        before = os.pread(fd, window, position - window)
        if before[-last - 1 :] != data[max(0, last + 1 - window) : last + 1]:
            return ReadResult(cursor, [], [], more=False, changed=True)
        lines, rejected, padding = _split(fd, cursor, data, max_line_bytes)
        # The unfinished line was rewritten: search it from its start.
        if lines and b"\n" in lines[0].data:
            return ReadResult(_unsearched(seen), [], [], more=True)
        head = cursor.head if cursor.offset >= FINGERPRINT_BYTES else fingerprint(os.pread(fd, window, 0))
        count = cursor.lines + len(lines) + len(rejected)
        consumed = Cursor(*seen[:4], position, count, head, fingerprint(before))
        return ReadResult(_searched(fd, consumed, data[last + 1 :]), lines, rejected, more, padding)


def _is_still_scanned(cursor: Cursor, now: FileStat) -> bool:
    """Whether the unfinished line need not be searched again from its start, which is so for a long line of a file that
    has grown or not changed at all. Otherwise every read would search the whole of a line that grows slowly."""
    is_known = now.identity == cursor[:2] and (now.size > cursor.size or now == cursor[:4])
    return cursor.scanned >= LONG_LINE and is_known


def _unsearched(cursor: Cursor) -> Cursor:
    """The cursor, with nothing known about what follows its offset."""
    return Cursor(*cursor[:8])


def _searched(fd: int, cursor: Cursor, data: bytes, hole: int = 0) -> Cursor:
    """The cursor, with `data` and the `hole` bytes after it also known to contain no LF."""
    scanned = cursor.scanned + len(data) + hole
    written = len(data.rstrip(b"\0"))
    written = cursor.scanned + written if written else cursor.written
    searched = known_by(fd, cursor.offset, scanned, written) if scanned >= LONG_LINE else 0
    found = (scanned, searched, written)
    return cursor if found == cursor[8:] else Cursor(*cursor[:8], *found)


def known_by(fd: int, offset: int, scanned: int, written: int) -> int:
    """The fingerprint of the bytes that change if somebody writes to an unfinished line: its last bytes, and those
    around the first of the NULs at its end. A file that was made before its lines is filled in from there, and if it is
    mapped into memory, that shows neither in its size nor at its end."""
    window = min(FINGERPRINT_BYTES, scanned)
    edge = max(0, min(written - window // 2, scanned - window))
    return fingerprint(os.pread(fd, window, offset + edge) + os.pread(fd, window, offset + scanned - window))


def _split(fd: int, cursor: Cursor, data: bytes, max_line_bytes: int) -> tuple[list[Line], list[Rejected], int]:
    """The lines that end in `data`, and the bytes of their padding. The first line began at the cursor's offset, which
    may lie before `data`."""
    texts = data.split(b"\n")
    # What follows the last LF.
    texts.pop()
    lengths = list(map(len, texts))
    lengths[0] += cursor.scanned
    offsets = accumulate([length + 1 for length in lengths], initial=cursor.offset)
    numbers = count(cursor.lines + 1)
    if (
        not cursor.scanned
        and max(lengths) <= max_line_bytes
        and not may_be_padded(data, begins_file=cursor.offset == 0)
    ):
        return list(map(_line, zip(offsets, numbers, texts, strict=False))), [], 0
    if is_not_utf8(os.pread(fd, 2, 0)):
        return [], [Rejected(*place, NOT_UTF8) for place in zip(numbers, offsets, lengths, strict=False)], 0
    lines: list[Line] = []
    rejected: list[Rejected] = []
    padding = 0
    for offset, number, length, text in zip(offsets, numbers, lengths, texts, strict=False):
        if offset == cursor.offset and cursor.scanned:
            trimmed = trim_in_file(fd, offset, offset + length, number, max_line_bytes)
        else:
            trimmed = trim(text, offset, number, max_line_bytes, begins_file=offset == 0)
        padding += trimmed.padding
        if isinstance(trimmed.line, Line):
            lines.append(trimmed.line)
        else:
            rejected.append(trimmed.line)
    return lines, rejected, padding


def trim_in_file(fd: int, start: int, end: int, number: int, max_line_bytes: int) -> Trimmed:
    """The line from `start` to `end` of a file, without its padding."""

    def read(position: int, length: int) -> bytes:
        return os.pread(fd, length, position)

    def skip(position: int) -> int:
        return next_data(fd, position, end)

    return trim_range(read, start, end, number, max_line_bytes, begins_file=start == 0, skip=skip)


_line = partial(tuple.__new__, Line)
"""Makes a line from its values at a third of the cost of calling its class."""


class WholeFile(NamedTuple):
    """An event file, read as a whole."""

    status: os.stat_result
    cursor: Cursor
    """A cursor that has consumed the whole file."""
    line: Line | Rejected
    """Its one record, without a last LF, or why it is rejected before it is parsed."""
    padding: int
    """The number of bytes of its padding; the LF does not count."""


def read_whole_file(path: str | Path, max_line_bytes: int) -> WholeFile:
    """Read an event file. No more of it is held in memory than `max_line_bytes`.

    Raises the errors of `read_lines`.
    """
    # Not `open_regular`, which costs as much again: there may be very many event files.
    fd, status = _open(path)
    try:
        seen = Cursor(*FileStat.of(status), 0, 0, 0, 0)
        if status.st_size > max_line_bytes + 1:
            return _read_large_file(fd, status, seen, max_line_bytes)
        # One byte more than the size, so that one call finds the end, unless the file has grown since.
        size_to_read = min(CHUNK_BYTES, status.st_size + 1)
        data = os.pread(fd, size_to_read, 0)
        if len(data) == size_to_read:
            return _read_large_file(fd, status, seen, max_line_bytes)
        size, body = len(data), data.removesuffix(b"\n")
        if len(body) <= max_line_bytes and not may_be_padded(body, begins_file=True):
            return WholeFile(status, _whole(seen, size, body), Line(0, 1, body), 0)
        line, padding = trim(body, 0, 1, max_line_bytes, begins_file=True)
        return WholeFile(status, _whole(seen, size, line), line, padding)
    finally:
        os.close(fd)


def _read_large_file(fd: int, status: os.stat_result, seen: Cursor, max_line_bytes: int) -> WholeFile:
    """Read an event file that is longer than a chunk, or that has grown since it was opened."""
    size = os.fstat(fd).st_size
    end = size - (size > 0 and os.pread(fd, 1, size - 1) == b"\n")
    line, padding = trim_in_file(fd, 0, end, 1, max_line_bytes)
    return WholeFile(status, _whole(seen, size, line), line, padding)


def _whole(seen: Cursor, size: int, line: Line | Rejected | bytes) -> Cursor:
    if isinstance(line, Rejected):
        line = b""
    head = fingerprint(line if isinstance(line, bytes) else line.data)
    return Cursor(seen.device, seen.inode, size, seen.mtime_ns, size, 1, head, 0)


def has_line_end(path: str | Path, offset: int) -> bool:
    """Whether a file has an LF at a byte offset or after it. Also true if the file cannot be read."""
    try:
        with open_regular(path) as (fd, status):
            while chunk := os.pread(fd, CHUNK_BYTES, offset):
                if b"\n" in chunk:
                    return True
                offset = next_data(fd, offset + len(chunk), status.st_size)
    except (OSError, NotAFile):
        return True
    return False


def is_all_nul(path: str | Path, offset: int) -> bool:
    """Whether a file contains nothing but NULs from a byte offset on. False if it cannot be read."""
    try:
        with open_regular(path) as (fd, status):
            while chunk := os.pread(fd, CHUNK_BYTES, offset):
                if chunk.strip(b"\0"):
                    return False
                offset = next_data(fd, offset + len(chunk), status.st_size)
    except (OSError, NotAFile):
        return False
    return True


@contextmanager
def open_regular(path: str | Path) -> Iterator[tuple[int, os.stat_result]]:
    """The descriptor and the status of a regular file, open for reading during a `with` statement. Raises OSError and
    NotAFile."""
    fd, status = _open(path)
    try:
        yield fd, status
    finally:
        os.close(fd)


def _open(path: str | Path) -> tuple[int, os.stat_result]:
    fd = os.open(path, _FLAGS)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile(f"{path} is not a regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def is_same(fd: int, cursor: Cursor) -> bool:
    """Whether the file still has the bytes that were read, at its head and before the position."""
    if cursor.offset == 0:
        return True
    window = min(FINGERPRINT_BYTES, cursor.offset)
    before = os.pread(fd, window, cursor.offset - window)
    if len(before) < window or fingerprint(before) != cursor.tail:
        return False
    return cursor.offset <= FINGERPRINT_BYTES or fingerprint(os.pread(fd, FINGERPRINT_BYTES, 0)) == cursor.head
