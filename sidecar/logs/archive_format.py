"""The format of an archive file.

An archive file is zstd in the seekable format, preceded by a note that says what it contains:

    note      a skippable frame: the logs, and where in the content each of them is
    frames    the content, in frames of about `FRAME_BYTES` bytes that end at the end of a record
    table     the seek table, as the seekable format defines it

`zstd -dc` skips the note and the table and prints the content alone. The note makes an archive self-contained: a lost
index is rebuilt from logs and archives without unpacking them first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import orjson

from sidecar.errors import ArchiveDamaged, SidecarError

FRAME_BYTES = 128 << 10
"""Bytes of content per frame: what is decompressed to read one record. Half costs 6 % in size, twice saves 4 %."""
COMPRESSION_LEVEL = 6
"""The zstd level. The next ones save a few percent for twice the time or more."""
MAX_FRAME_BYTES = 16 << 20
"""Bytes of one line from which on it is split over frames, so that memory is bounded."""
MAX_NOTE_BYTES = 256 << 20
"""Largest size of a note, unpacked: two million logs. A larger one is not written, and counts as damaged."""
MAX_FRAMES = 8 << 20
"""Most frames that an archive may have; a table of more counts as damaged."""
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
    """Its offset in the content."""
    size: int
    lines: int
    sign: int
    """Digest of its bytes."""
    first_mtime: float | None
    """The file's modification time when it was first seen: the time of records without one."""


def write(file: BinaryIO, members: Sequence[ArchivedLog], pieces: Iterable[bytes]) -> None:
    """Write an archive into a new file, each piece as a frame of its own; durable when this returns.

    Raises OSError, and SidecarError where there would be more of it than a reader takes.
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
    """The table at the end: for each frame its size and that of its content."""
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
    """The logs that an archive's note lists. Raises ArchiveDamaged where the note cannot be read."""
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
    """Regroup chunks of any size into frames that end at a line end; a line longer than a frame is one by itself."""
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
    """Raise ValueError where the seek table would take more memory than one of ours can."""
    size = raw.seek(0, os.SEEK_END)
    if size >= 9:
        raw.seek(-9, os.SEEK_END)
        if struct.unpack("<IBI", raw.read(9))[0] > MAX_FRAMES:
            raise ValueError("its seek table is too large")
    raw.seek(0)
