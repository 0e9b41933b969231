"""What an archive file is: zstd in the seekable format, with a note in front of what it holds.

    note      a skippable frame: which logs, and where in the content each of them lies
    frames    the content, in frames of about `FRAME` bytes that end where a record ends
    table     the seek table, as the format has it

`zstd -dc` passes over the first and the last, and gives the content alone. The note makes an archive complete in
itself: an index that is lost is made again from logs and archives, without walking through what is packed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from sidecar.errors import ArchiveDamaged

FRAME = 128 << 10
"""Bytes of content in a frame: what is unpacked for one record. Half of it costs 6 % in size, twice saves 4 %."""

LEVEL = 6
"""Of compression. The next ones save some percent, for twice the time and more."""

LONGEST_FRAME = 16 << 20
"""Bytes of one line from which it is cut, so that memory stays bounded."""

MOST_NOTED = 1 << 30
"""Bytes of a note that are believed."""

_NOTE = 0x184D2A55
_TABLE = 0x184D2A5E
_SEEKABLE = 0x8F92EAB1
_KIND = b"sidecar1"


class Member(NamedTuple):
    """A log, or the next part of one, as it lies in the content of an archive."""

    path: str
    """Relative to the root, as the index has it."""
    start: int
    """Bytes of the log that lie in archives before: 0, unless it went on after it was archived."""
    at: int
    """Where it begins in the content."""
    size: int
    lines: int
    sign: int
    """Hash of its bytes."""
    first_mtime: float | None
    """The file's modification time when it was first seen: the time of records that bear none."""


def write(path: Path, members: Sequence[Member], pieces: Iterable[bytes]) -> None:
    """Make an archive file, whose every piece is a frame of its own; durable when this returns. Raises OSError."""
    from pyzstd import CParameter, SeekableZstdFile

    note = _note(members)
    with path.open("wb") as file:
        # A file of the seekable format that holds the note alone; the library appends to it.
        file.write(note)
        file.write(struct.pack("<IIIIIBI", _TABLE, 8 + 9, len(note), 0, 1, 0, _SEEKABLE))
    options: dict[int, int] = {CParameter.compressionLevel: LEVEL, CParameter.checksumFlag: 1}
    with SeekableZstdFile(path, "ab", level_or_option=options) as packed:
        for piece in pieces:
            packed.write(piece)
            packed.flush(packed.FLUSH_FRAME)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _note(members: Sequence[Member]) -> bytes:
    from pyzstd import compress

    content = _KIND + compress(orjson.dumps(list(map(list, members))))
    return struct.pack("<II", _NOTE, len(content)) + content


def read_note(file: BinaryIO, name: str) -> list[Member]:
    """What an archive says that it holds. Raises ArchiveDamaged where it says nothing that can be read."""
    from pyzstd import ZstdError, decompress

    try:
        magic, size = struct.unpack("<II", file.read(8))
        if magic != _NOTE or not len(_KIND) < size <= MOST_NOTED:
            raise ValueError("no note")
        content = file.read(size)
        if len(content) != size or not content.startswith(_KIND):
            raise ValueError("no note of ours")
        return [_member(*values) for values in orjson.loads(decompress(content[len(_KIND) :]))]
    except (ValueError, TypeError, struct.error, ZstdError, EOFError) as error:
        raise ArchiveDamaged(f"{name}: this is no archive of the sidecar's, or its note is damaged") from error


def _member(
    path: str, start: int, at: int, size: int, lines: int, sign: int, first_mtime: float | None
) -> Member:
    if not isinstance(path, str) or not all(isinstance(one, int) for one in (start, at, size, lines, sign)):
        raise ValueError("no member")
    if min(start, at, size, lines) < 0 or not (first_mtime is None or isinstance(first_mtime, int | float)):
        raise ValueError("no member")
    return Member(path, start, at, size, lines, sign, first_mtime)


def frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut lines that come in chunks of any size into frames that end at a line end; a longer line stands alone."""
    data = b""
    for chunk in chunks:
        data += chunk
        begin = 0
        while len(data) - begin > FRAME:
            end = data.rfind(b"\n", begin, begin + FRAME) + 1 or data.find(b"\n", begin + FRAME) + 1
            if not end and len(data) - begin < LONGEST_FRAME:
                break
            end = end or len(data)
            yield data[begin:end]
            begin = end
        data = data[begin:]
    if data:
        yield data
