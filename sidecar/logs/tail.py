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
from sidecar.records import TOO_LONG, Line, Rejected

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
    """Bytes consumed; always just after an LF, or at the end of an event file."""
    lines: int
    """Lines consumed."""
    head: int
    tail: int
    """Fingerprints of the first and the last consumed bytes; for an event file `head` is that of the whole file."""
    scanned: int = 0
    """The number of bytes after `offset` that are known to contain no LF. A hint, never saved."""
    searched: int = 0
    """The fingerprint of the last of these bytes, if there are at least `LONG_LINE`; else 0."""


NEW = Cursor(0, 0, 0, 0, 0, 0, 0, 0)
"""The cursor of a file that has never been read."""


class ReadResult(NamedTuple):
    """The lines of one read, and the next cursor."""

    cursor: Cursor
    lines: list[Line]
    rejected: list[Rejected]
    more: bool
    """Whether the chunk was full, so that the file should be read again without waiting for an event."""
    changed: bool = False
    """Whether the bytes that were read earlier have changed. If so, start again from `NEW`, and drop the rows that were
    derived from them."""


def read_lines(path: str | Path, cursor: Cursor, max_line_bytes: int, limit: int | None = None) -> ReadResult:
    """Read the next whole lines of a growing file, from the cursor on and no further than byte `limit`.

    Raises OSError if the file cannot be opened or read, and NotAFile if it is not a regular file.
    """
    with open_regular(path) as (fd, status):
        now = FileStat.of(status)
        scanned = _still_scanned(cursor, now)
        if scanned != cursor.scanned:
            cursor = cursor._replace(scanned=scanned)
        start = cursor.offset + cursor.scanned
        # Asking for no more bytes than there are avoids a large buffer for a small file.
        end = status.st_size if limit is None else min(limit, status.st_size)
        data = os.pread(fd, max(0, min(CHUNK_BYTES, end - start)), start)
        # The bytes before the position are checked after the read, not before it. Otherwise a file that is truncated
        # and rewritten between the two would pass, and its new bytes would be taken for a continuation of the old.
        if not _is_same(fd, cursor):
            return ReadResult(cursor, [], [], more=False, changed=True)
        seen = Cursor(*now, *cursor[4:])
        if cursor.scanned and _end(fd, start, cursor.scanned) != cursor.searched:
            return ReadResult(seen._replace(scanned=0), [], [], more=True)
        more = len(data) == CHUNK_BYTES
        last = data.rfind(b"\n")
        if last < 0:
            return ReadResult(_searched(fd, seen, cursor.scanned + len(data), more=more), [], [], more)
        position = start + last + 1
        window = min(FINGERPRINT_BYTES, position)
        before = os.pread(fd, window, position - window)
        if before[-last - 1 :] != data[max(0, last + 1 - window) : last + 1]:
            return ReadResult(cursor, [], [], more=False, changed=True)
        lines, rejected = _split(fd, cursor, data, max_line_bytes)
        # The unfinished line was rewritten: search it from its start.
        if lines and b"\n" in lines[0].data:
            return ReadResult(seen._replace(scanned=0), [], [], more=True)
        head = cursor.head if cursor.offset >= FINGERPRINT_BYTES else fingerprint(os.pread(fd, window, 0))
        count = cursor.lines + len(lines) + len(rejected)
        consumed = Cursor(*seen[:4], position, count, head, fingerprint(before))
        return ReadResult(_searched(fd, consumed, len(data) - last - 1, more=more), lines, rejected, more)


def _still_scanned(cursor: Cursor, now: FileStat) -> int:
    """How much of the unfinished line need not be searched again. Without this, every read would search the whole of a
    line that grows slowly. Trusted only for a long line of a file that has grown, or not changed at all."""
    is_known = now.identity == cursor[:2] and (now.size > cursor.size or now == cursor[:4])
    return cursor.scanned if cursor.scanned >= LONG_LINE and is_known else 0


def _searched(fd: int, cursor: Cursor, scanned: int, *, more: bool) -> Cursor:
    """The cursor with `scanned` bytes after its offset known to contain no LF, and their fingerprint.

    If the file ends with a NUL, nothing is known of its bytes: it was made before its lines, and a writer that has
    mapped it into memory fills it in from the front, which shows neither in its size nor at its end.
    """
    if not more and scanned >= LONG_LINE and os.pread(fd, 1, cursor.offset + scanned - 1) == b"\0":
        scanned = 0
    searched = _end(fd, cursor.offset + scanned, scanned) if scanned >= LONG_LINE else 0
    return cursor if (scanned, searched) == cursor[8:] else cursor._replace(scanned=scanned, searched=searched)


def _end(fd: int, end: int, length: int) -> int:
    """Fingerprint of the last bytes before `end`, at most `length` of them."""
    window = min(FINGERPRINT_BYTES, length)
    return fingerprint(os.pread(fd, window, end - window))


def _split(fd: int, cursor: Cursor, data: bytes, max_line_bytes: int) -> tuple[list[Line], list[Rejected]]:
    """The lines that end in `data`; the first began at the cursor's offset, which may lie before it."""
    texts = data.split(b"\n")
    # What follows the last LF.
    texts.pop()
    lengths = list(map(len, texts))
    lengths[0] += cursor.scanned
    offsets = accumulate([length + 1 for length in lengths], initial=cursor.offset)
    places = zip(offsets, count(cursor.lines + 1), lengths, texts, strict=False)
    if max(lengths) <= max_line_bytes:
        if cursor.scanned:
            texts[0] = os.pread(fd, lengths[0], cursor.offset)
        return list(map(_line, zip(offsets, count(cursor.lines + 1), texts, strict=False))), []
    lines: list[Line] = []
    rejected: list[Rejected] = []
    for offset, number, length, text in places:
        if length > max_line_bytes:
            rejected.append(Rejected(number, offset, length, TOO_LONG))
        else:
            begun_before = offset == cursor.offset and cursor.scanned
            lines.append(Line(offset, number, os.pread(fd, length, offset) if begun_before else text))
    return lines, rejected


_line = partial(tuple.__new__, Line)
"""Makes a line from its values at a third of the cost of calling its class."""


def read_whole_file(path: str | Path, max_line_bytes: int) -> tuple[os.stat_result, Cursor, Line | int]:
    """The status of an event file, a cursor that has consumed all of it, and its one record without the last LF. If the
    record has more than `max_line_bytes` bytes, its length is returned in its place.

    Raises the errors of `read_lines`.
    """
    # Not `open_regular`, which costs as much again: there may be very many event files.
    fd, status = _open(path)
    try:
        seen = Cursor(*FileStat.of(status), 0, 0, 0, 0)
        if status.st_size > max_line_bytes + 1:
            return status, seen._replace(offset=status.st_size, lines=1), _bare_length(fd, status.st_size)
        # One byte more than the size, so that one call finds the end, unless the file has grown since.
        size_to_read = min(CHUNK_BYTES, status.st_size + 1)
        data = chunk = os.pread(fd, size_to_read, 0)
        while len(chunk) == size_to_read:
            size_to_read = CHUNK_BYTES
            chunk = os.pread(fd, size_to_read, len(data))
            data += chunk
            if len(data) > max_line_bytes + 1:
                return status, seen._replace(offset=len(data), lines=1), len(data.removesuffix(b"\n"))
        size, body = len(data), data.removesuffix(b"\n")
        whole = Cursor(seen.device, seen.inode, size, seen.mtime_ns, size, 1, fingerprint(data), 0)
        return status, whole, len(body) if len(body) > max_line_bytes else Line(0, 1, body)
    finally:
        os.close(fd)


def has_line_end(path: str | Path, offset: int) -> bool:
    """Whether a file has an LF at a byte offset or after it. Also true if the file cannot be read."""
    try:
        with open_regular(path) as (fd, _):
            while chunk := os.pread(fd, CHUNK_BYTES, offset):
                if b"\n" in chunk:
                    return True
                offset += len(chunk)
    except (OSError, NotAFile):
        return True
    return False


def _bare_length(fd: int, size: int) -> int:
    """The length in bytes of a file, without its last LF."""
    return size - (os.pread(fd, 1, size - 1) == b"\n")


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


def _is_same(fd: int, cursor: Cursor) -> bool:
    """Whether the file still has the bytes that were read, at its head and before the position."""
    if cursor.offset == 0:
        return True
    window = min(FINGERPRINT_BYTES, cursor.offset)
    before = os.pread(fd, window, cursor.offset - window)
    if len(before) < window or fingerprint(before) != cursor.tail:
        return False
    return cursor.offset <= FINGERPRINT_BYTES or fingerprint(os.pread(fd, FINGERPRINT_BYTES, 0)) == cursor.head
