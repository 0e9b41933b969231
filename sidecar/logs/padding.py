"""Padding: bytes at the ends of a line that are not part of it (`docs/derivation.md`, section 2).

Padding consists of the NULs at the beginning and the end of a line, which power cuts, holes and preallocated files
leave, and of a byte order mark at byte 0 of a file. The line is what is left, and begins where that begins. A hole may
be larger than the memory, so no more of a line is ever held in memory than a line may have bytes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from sidecar.records import NOT_UTF8, TOO_LONG, Line, Rejected

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff")
"""The beginnings of files in UTF-16 and UTF-32."""
_NUL = b"\0"

PIECE_BYTES = 1 << 16
"""How many bytes of padding are looked at at a time."""

Read = Callable[[int, int], bytes]
"""A function from a position and a number of bytes to these bytes, or fewer if there are no more."""
Skip = Callable[[int], int]
"""A function from a position to that of the next byte that is not in a hole, as far as it knows."""


class Trimmed(NamedTuple):
    """A line without its padding."""

    line: Line | Rejected
    """The line, or why it is rejected before it is parsed."""
    padding: int
    """The number of bytes of padding that it had."""


def may_be_padded(data: bytes, *, begins_file: bool) -> bool:
    """Whether a line in `data` may have padding, or be in an encoding other than UTF-8."""
    return _NUL in data or (begins_file and _has_mark(data))


def is_not_utf8(data: bytes) -> bool:
    """Whether a file that begins with `data` is in another encoding, by its byte order mark."""
    return data.startswith(_OTHER_ENCODINGS)


def trim(data: bytes, offset: int, number: int, max_line_bytes: int, *, begins_file: bool) -> Trimmed:
    """The line `data` at a byte offset, without its padding. `begins_file` says whether it begins at byte 0 of its
    file."""
    if begins_file and is_not_utf8(data):
        return Trimmed(Rejected(number, offset, len(data), NOT_UTF8), 0)
    mark = _mark(data) if begins_file else 0
    begun = data[mark:].lstrip(_NUL)
    body = begun.rstrip(_NUL)
    first = offset + len(data) - len(begun)
    padding = len(data) - len(body)
    if len(body) > max_line_bytes:
        return Trimmed(Rejected(number, first, len(body), TOO_LONG), padding)
    return Trimmed(Line(first, number, body), padding)


def trim_range(
    read: Read, start: int, end: int, number: int, max_line_bytes: int, *, begins_file: bool, skip: Skip = lambda at: at
) -> Trimmed:
    """Like `trim`, for a line from `start` to `end` that may be too long to be held in memory."""
    first = start
    if begins_file:
        head = read(start, min(len(BYTE_ORDER_MARK), end - start))
        if is_not_utf8(head):
            return Trimmed(Rejected(number, start, end - start, NOT_UTF8), 0)
        first += _mark(head)
    while first < end and (data := read(first, min(PIECE_BYTES, end - first))):
        begun = data.lstrip(_NUL)
        first += len(data) - len(begun)
        if begun:
            break
        first = min(end, skip(first))
    last = end
    while last > first and (data := read(max(first, last - PIECE_BYTES), min(PIECE_BYTES, last - first))):
        body = data.rstrip(_NUL)
        last -= len(data) - len(body)
        if body:
            break
    padding = end - start - (last - first)
    if last - first > max_line_bytes:
        return Trimmed(Rejected(number, first, last - first, TOO_LONG), padding)
    return Trimmed(Line(first, number, read(first, last - first)), padding)


def next_data(fd: int, position: int, end: int) -> int:
    """The position of the next byte of a file that is not in a hole, from a position on, but no further than `end`."""
    if position >= end:
        return position
    try:
        return min(end, os.lseek(fd, position, os.SEEK_DATA))
    except OSError as error:
        # ENXIO means that only a hole is left; other errors, that the file system does not know about holes.
        return end if error.errno == errno.ENXIO else position


def _mark(data: bytes) -> int:
    """The length of the byte order mark at the beginning; 0 if there is none."""
    return len(BYTE_ORDER_MARK) if data.startswith(BYTE_ORDER_MARK) else 0


def _has_mark(data: bytes) -> bool:
    return data.startswith((BYTE_ORDER_MARK, *_OTHER_ENCODINGS))
