"""The format of an archive file.

An archive file is in the seekable format of zstd, preceded by a note that says what it contains:

    note      a skippable frame: the logs, and where in the content each of them is
    frames    the content, in frames of about `FRAME_BYTES` bytes that end at the end of a record
    table     the seek table, as the seekable format defines it

`zstd -dc` skips the note and the table and prints the content alone. The note makes an archive self-contained: a lost
index can be rebuilt from logs and archives without unpacking them first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import orjson

from sidecar.errors import ArchiveDamaged, SidecarError

FRAME_BYTES = 128 << 10
"""Bytes of content per frame, all of which are decompressed to read one record. Half as many would make an archive 6 %
larger, twice as many 4 % smaller."""
COMPRESSION_LEVEL = 6
"""The zstd level. Higher levels save a few percent and take twice as long, or longer."""
MAX_FRAME_BYTES = 16 << 20
"""The largest frame, in bytes of content. A longer line is split, so that memory is bounded."""
MAX_NOTE_BYTES = 256 << 20
"""The largest size of a note, uncompressed: about two million logs. A larger note is never written, and is considered
damaged when it is read."""
MAX_FRAMES = 8 << 20
"""The largest number of frames in an archive. A table with more is considered damaged."""
_NOTE = 0x184D2A55
_TABLE = 0x184D2A5E
_SEEKABLE = 0x8F92EAB1
_KIND = b"sidecar1"
_INTEGERS = range(-(1 << 63), 1 << 63)
"""What SQLite can store."""


class ArchivedLog(NamedTuple):
    """A log, or the next extent of one, within the content of an archive file."""

    path: str
    """Relative to the root, as in the index."""
    start: int
    """Bytes of the log in earlier archives: 0, unless it continued after it was archived."""
    at: int
    """The offset of its bytes in the content."""
    size: int
    lines: int
    sign: int
    """The fingerprint of its bytes."""
    first_mtime: float | None
    """The file's modification time when it was first seen, in seconds since 1970, which is the time of records that
    have none."""


def write(file: BinaryIO, members: Sequence[ArchivedLog], pieces: Iterable[bytes]) -> None:
    """Write an archive to a new file, each piece as a frame of its own, and make it durable.

    Raises OSError, and SidecarError if the archive would be larger than a reader accepts.
    """
    from pyzstd import CParameter, ZstdCompressor

    options: dict[int, int] = {CParameter.compressionLevel: COMPRESSION_LEVEL, CParameter.checksumFlag: 1}
    compressor = ZstdCompressor(level_or_option=options)
    note = _note(members)
    file.write(note)
    sizes = [(len(note), 0)]
    for piece in filter(None, pieces):
        frame = compressor.compress(piece, ZstdCompressor.FLUSH_FRAME)
        file.write(frame)
        sizes.append((len(frame), len(piece)))
    if len(sizes) > MAX_FRAMES:
        raise SidecarError("the logs are too large for one archive", hint="see which folder holds them")
    file.write(_seek_table(sizes))
    file.flush()
    os.fsync(file.fileno())


def _seek_table(sizes: Sequence[tuple[int, int]]) -> bytes:
    """The table at the end, with the size of each frame and of its content."""
    entries = b"".join(struct.pack("<II", *size) for size in sizes)
    return struct.pack("<II", _TABLE, len(entries) + 9) + entries + struct.pack("<IBI", len(sizes), 0, _SEEKABLE)


def _note(members: Sequence[ArchivedLog]) -> bytes:
    from pyzstd import compress

    listed = orjson.dumps(list(map(list, members)))
    if len(listed) > MAX_NOTE_BYTES:
        raise SidecarError(f"{len(members):,} logs are too many for one archive", hint="see which folder holds them")
    content = _KIND + compress(listed)
    return struct.pack("<II", _NOTE, len(content)) + content


def read_note(file: BinaryIO, name: str) -> list[ArchivedLog]:
    """The logs that the note of the archive `name` lists. Raises ArchiveDamaged if the note cannot be read."""
    from pyzstd import ZstdDecompressor, ZstdError

    try:
        magic, size = struct.unpack("<II", file.read(8))
        if magic != _NOTE or not len(_KIND) < size <= MAX_NOTE_BYTES:
            raise ValueError("no note")
        content = file.read(size)
        if len(content) != size or not content.startswith(_KIND):
            raise ValueError("no note of ours")
        unpacked = ZstdDecompressor()
        listed = unpacked.decompress(content[len(_KIND) :], MAX_NOTE_BYTES + 1)
        if len(listed) > MAX_NOTE_BYTES or not unpacked.eof:
            raise ValueError("a note that is not whole, or too large")
        return [_member(*values) for values in orjson.loads(listed)]
    except (ValueError, TypeError, struct.error, ZstdError, EOFError) as error:
        raise ArchiveDamaged(f"{name}: not an archive of the sidecar, or its note is damaged") from error


def _member(path: str, start: int, at: int, size: int, lines: int, sign: int, first_mtime: float | None) -> ArchivedLog:
    if not isinstance(path, str) or not all(isinstance(one, int) for one in (start, at, size, lines, sign)):
        raise ValueError("no member")
    if min(start, at, size, lines) < 0 or any(one not in _INTEGERS for one in (start, at, size, lines, sign)):
        raise ValueError("no member")
    if not (first_mtime is None or isinstance(first_mtime, int | float)):
        raise ValueError("no member")
    return ArchivedLog(path, start, at, size, lines, sign, first_mtime)


def frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Regroup chunks of any size into frames that end with a line. A line that is longer than `FRAME_BYTES` makes a
    longer frame."""
    data = b""
    for chunk in chunks:
        data += chunk
        begin = 0
        while len(data) - begin > FRAME_BYTES:
            end = data.rfind(b"\n", begin, begin + FRAME_BYTES) + 1 or data.find(b"\n", begin + FRAME_BYTES) + 1
            if not end and len(data) - begin < MAX_FRAME_BYTES:
                break
            end = end or len(data)
            yield data[begin:end]
            begin = end
        data = data[begin:]
    if data:
        yield data


def check_table(raw: BinaryIO) -> None:
    """Raise ValueError if the seek table has more frames than the sidecar writes, because reading it takes memory."""
    size = raw.seek(0, os.SEEK_END)
    if size >= 9:
        raw.seek(-9, os.SEEK_END)
        if struct.unpack("<IBI", raw.read(9))[0] > MAX_FRAMES:
            raise ValueError("its seek table is too large")
    raw.seek(0)
