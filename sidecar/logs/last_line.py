"""The last line of a file if it has no LF: reading it as it stands, and what became of it since.

A line without LF is usually one that is being written. If nothing has been written for a while, its writer may have
finished without a line end, and the line can be taken as it stands (`docs/derivation.md`, section 2). The position is
then at the end of the file, behind no LF, until the file grows.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from sidecar.fs import FileStat, fingerprint
from sidecar.records import Line

from .padding import PIECE_BYTES
from .tail import FINGERPRINT_BYTES, Cursor, is_same, known_by, open_regular, trim_in_file


class OpenEnd(NamedTuple):
    """What is known of a last line that was taken without an LF. It ends where the cursor of the file is."""

    nuls: int
    """The number of NULs at its end, which are not part of it. A file that is made before its lines is filled in from
    there, which does not show in its size."""
    mark: int
    """The fingerprint of the bytes before these NULs."""
    is_skipped: bool
    """Whether its record is skipped, so that a line end that comes later counts as skipped too."""


class Unended(NamedTuple):
    """A last line without LF, as it stands."""

    line: Line
    padding: int
    """The number of bytes of padding that it has."""
    cursor: Cursor
    """The cursor of the file after it."""
    nuls: int
    mark: int
    """As in `OpenEnd`."""


class Since(Enum):
    """What became of a file whose last line was taken without an LF."""

    SAME = "nothing was written"
    ENDED = "the line end has come, and perhaps more"
    GROWN = "the line, or the NULs behind it, are something else now"
    OTHER = "the file does not have the bytes that were read"


def read_unended(path: str | Path, cursor: Cursor, max_line_bytes: int) -> Unended | None:
    """The last line of a file, without LF. `cursor` is at its beginning, and says how many bytes were searched and
    written after that. None if the file has changed since, or the line is too long or in another encoding.

    Raises OSError and NotAFile.
    """
    with open_regular(path) as (fd, status):
        text_end, end = cursor.offset + cursor.written, cursor.offset + cursor.scanned
        trimmed, padding = trim_in_file(fd, cursor.offset, text_end, cursor.lines + 1, max_line_bytes)
        window = min(FINGERPRINT_BYTES, end)
        tail, head = os.pread(fd, window, end - window), os.pread(fd, window, 0)
        mark = _mark(fd, text_end)
        is_as_before = FileStat.of(status) == FileStat.of(os.fstat(fd)) == cursor[:4] and is_same(fd, cursor)
    if not is_as_before or not isinstance(trimmed, Line) or b"\n" in trimmed.data:
        return None
    head_mark = cursor.head if cursor.offset >= FINGERPRINT_BYTES else fingerprint(head)
    consumed = Cursor(*cursor[:4], end, cursor.lines + 1, head_mark, fingerprint(tail))
    nuls = end - text_end
    return Unended(trimmed, padding + nuls, consumed, nuls, mark)


def mark_of(path: str | Path, cursor: Cursor) -> int:
    """A fingerprint of what stands behind the position: if it is the same, nothing was written there as far as can be
    told without reading all of it. Raises OSError and NotAFile."""
    with open_regular(path) as (fd, _):
        return known_by(fd, cursor.offset, cursor.scanned, cursor.written)


def since_taken(path: str | Path, cursor: Cursor, end: OpenEnd) -> tuple[Since, Cursor]:
    """What became of a file whose last line was taken, and the cursor for what follows. If the line end has come, the
    cursor is behind it. Raises OSError and NotAFile."""
    with open_regular(path) as (fd, status):
        text_end = cursor.offset - end.nuls
        if not is_same(fd, cursor._replace(offset=text_end, tail=end.mark)):
            # Whoever looks for the bytes that were read, by the cursor alone, must come to the same result.
            return Since.GROWN if is_same(fd, cursor) else Since.OTHER, cursor
        is_blank = not os.pread(fd, min(end.nuls, PIECE_BYTES), text_end).strip(b"\0") and is_same(fd, cursor)
        if status.st_size < cursor.offset or not is_blank:
            return Since.GROWN, cursor
        if status.st_size == cursor.offset:
            return Since.SAME, Cursor(*FileStat.of(status), *cursor[4:])
        if os.pread(fd, 1, cursor.offset) != b"\n":
            return Since.GROWN, cursor
        position = cursor.offset + 1
        head = cursor.head if cursor.offset >= FINGERPRINT_BYTES else _mark(fd, min(position, FINGERPRINT_BYTES))
        return Since.ENDED, Cursor(*cursor[:4], position, cursor.lines, head, _mark(fd, position))


def is_behind_line_end(path: str | Path, offset: int) -> bool:
    """Whether a position is at the beginning of a line. Raises OSError and NotAFile."""
    if not offset:
        return True
    with open_regular(path) as (fd, _):
        return os.pread(fd, 1, offset - 1) == b"\n"


def _mark(fd: int, end: int) -> int:
    """The fingerprint of the bytes before a position."""
    window = min(FINGERPRINT_BYTES, end)
    return fingerprint(os.pread(fd, window, end - window))
