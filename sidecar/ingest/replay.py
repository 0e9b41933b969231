"""A log that was archived: its bytes read again from the archive, and what comes of a new file of its name.

The rule: a log is its archived bytes and then those of its file. So a session that its writer opens again goes on where
it ended, with its owner, its roles and its open requests; and old and new entries keep apart, because offsets and line
numbers of the new file count on from the archived ones.

One file is no continuation: one that begins with the very bytes that were archived last. It is the log itself, put back
or not deleted yet, and takes the place of that part of the archive. A file that is being put back is a continuation
until it is whole; then what came of it goes.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from sidecar.errors import ArchiveDamaged
from sidecar.logs.archive import Archive
from sidecar.logs.tail import CHUNK, Mark, opened
from sidecar.records import Line, Part, Rejected, archived_size

from .parse import TOO_LONG
from .source import Batch, Progress


class Replayed(NamedTuple):
    """What a look at the archive brought; the progress has been moved on."""

    batch: Batch | None
    more: bool


def replay(progress: Progress, archive: Archive, max_line_bytes: int) -> Replayed:
    """Read the next lines of a log that are in the archive. Raises ArchiveMissing, ArchiveDamaged; then nothing has
    moved."""
    mark = progress.mark
    part, begin = _part_at(progress.archived, mark.offset)
    if progress.source.layout == "file":
        data = _whole(archive, part, max_line_bytes)
        if data is None:
            batch = progress.take((), [Rejected(mark.lines + 1, begin, part.size, TOO_LONG)], line_end=0)
        else:
            line = Line(begin, mark.lines + 1, data.removesuffix(b"\n"))
            batch = progress.take([line], line_end=part.size - len(line.data))
        end, lines = begin + part.size, 1
    else:
        found, rejected, end = _lines(archive, part, begin, mark, max_line_bytes)
        batch = progress.take(found, rejected)
        lines = len(found) + len(rejected)
    progress.mark = Mark(0, 0, 0, 0, end, mark.lines + lines, 0, 0)
    return Replayed(batch, end < archived_size(progress.archived))


def _part_at(parts: tuple[Part, ...], offset: int) -> tuple[Part, int]:
    begin = 0
    for part in parts:
        if offset < begin + part.size:
            return part, begin
        begin += part.size
    raise AssertionError(f"nothing at {offset} is archived")


def _whole(archive: Archive, part: Part, max_line_bytes: int) -> bytes | None:
    """The one record of an event file; None where it is longer than a line may be."""
    if part.size > max_line_bytes + 1:
        return None
    data = archive.read(part.file, part.at, part.size)
    if len(data) != part.size:
        raise ArchiveDamaged(f"{archive.folder / part.file} ends before byte {part.at + part.size} of its content")
    return data


def _lines(
    archive: Archive, part: Part, begin: int, mark: Mark, max_line_bytes: int
) -> tuple[list[Line], list[Rejected], int]:
    """Whole lines from the mark on, about a chunk of them, and where they end."""
    offset, number = mark.offset, mark.lines + 1
    data = _chunk(archive, part, offset - begin)
    last = data.rfind(b"\n")
    if last < 0:
        return _long_line(archive, part, begin, mark, max_line_bytes)
    lines: list[Line] = []
    rejected: list[Rejected] = []
    for text in data[:last].split(b"\n"):
        if len(text) > max_line_bytes:
            rejected.append(Rejected(number, offset, len(text), TOO_LONG))
        else:
            lines.append(Line(offset, number, text))
        number += 1
        offset += len(text) + 1
    return lines, rejected, offset


def _long_line(
    archive: Archive, part: Part, begin: int, mark: Mark, max_line_bytes: int
) -> tuple[list[Line], list[Rejected], int]:
    """One line that is longer than a chunk; kept no further than a line may be long."""
    length = 0
    held: list[bytes] = []
    while True:
        data = _chunk(archive, part, mark.offset - begin + length)
        end = data.find(b"\n")
        length += len(data) if end < 0 else end
        if length <= max_line_bytes:
            held.append(data if end < 0 else data[:end])
        if end >= 0:
            break
    number, after = mark.lines + 1, mark.offset + length + 1
    if length > max_line_bytes:
        return [], [Rejected(number, mark.offset, length, TOO_LONG)], after
    return [Line(mark.offset, number, b"".join(held))], [], after


def _chunk(archive: Archive, part: Part, position: int) -> bytes:
    data = archive.read(part.file, part.at + position, min(CHUNK, part.size - position))
    if not data:  # what is archived ends with a line end
        raise ArchiveDamaged(f"{archive.folder / part.file} ends before byte {part.at + part.size} of its content")
    return data


# ---- a file beside what is archived


def begins_with(file: Path, part: Part) -> bool:
    """Whether a file begins with the bytes of an archived part. Raises OSError, NotAFile."""
    with opened(file) as (fd, status):
        if status.st_size < part.size:
            return False
        hashed = blake2b(digest_size=8)
        position = 0
        while position < part.size:
            data = os.pread(fd, min(CHUNK, part.size - position), position)
            if not data:
                return False
            hashed.update(data)
            position += len(data)
        return int.from_bytes(hashed.digest(), "big", signed=True) == part.sign


def still_archived(file: Path, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts that count beside a file of the log's name: without the last where the file begins with it."""
    return parts[:-1] if parts and begins_with(file, parts[-1]) else parts


def in_file(mark: Mark, parts: tuple[Part, ...]) -> Mark:
    """The mark as the log's file has it, which begins behind what is archived."""
    return mark._replace(offset=mark.offset - archived_size(parts), lines=mark.lines - sum(one.lines for one in parts))


def in_log(mark: Mark, parts: tuple[Part, ...]) -> Mark:
    """The mark as the log has it, from one of its file."""
    return mark._replace(offset=mark.offset + archived_size(parts), lines=mark.lines + sum(one.lines for one in parts))


def lines_in_log(
    lines: list[Line], rejected: list[Rejected], parts: tuple[Part, ...]
) -> tuple[list[Line], list[Rejected]]:
    """Lines of the file, with the places that they have in the log."""
    size, count = archived_size(parts), sum(one.lines for one in parts)
    return (
        [Line(one.byte_offset + size, one.line_number + count, one.data) for one in lines],
        [one._replace(line_number=one.line_number + count, byte_offset=one.byte_offset + size) for one in rejected],
    )
