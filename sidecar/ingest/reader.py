"""One read of one source: tail, derive, rows. Live indexing, rebuild and verify read files through this alone.

A log is its archived bytes followed by those of its file. So a session that its writer opens again continues with its
owner, its roles and its open requests, and old and new entries stay apart: offsets and line numbers in the new file
count on from the archived ones.

There is one exception. A file that begins with the very bytes that were archived last is not a continuation: it is the
log itself, restored or not deleted yet, and it replaces that part of the archive. A file that is being restored counts
as a continuation until it is complete; then the rows that came of it are dropped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from sidecar.errors import ArchiveDamaged
from sidecar.fs import resolve_found
from sidecar.logs import archive_file
from sidecar.logs.archive_file import Archive
from sidecar.logs.tail import CHUNK_BYTES, NEW, Cursor, identity, read_lines, read_whole_file
from sidecar.records import TOO_LONG, Extent, Line, Rejected, archived_size

from .parse import NOT_JSON, parse
from .source import Batch, SourceState

EVENT_FILE_GRACE = 5.0
"""Seconds for which an event file that does not parse must stay unchanged to be rejected (section 7)."""


class ReadOutcome(NamedTuple):
    """What came of a look at a source, whose progress has been moved on."""

    batch: Batch | None = None
    more: bool = False
    """There is more to read now."""
    changed: bool = False
    """The file is another one than was read before; nothing was taken. Begin again."""
    retry_in: float | None = None
    """Seconds until an unfinished event file counts as settled."""
    is_restored: bool = False
    """Changed, in that the file begins with what had been archived of it."""


def read_next(
    progress: SourceState,
    root: Path,
    max_line_bytes: int,
    now: float,
    limit: int | None = None,
    archive: Archive | None = None,
) -> ReadOutcome:
    """Read the next chunk of a source, at most up to the byte `limit`, and derive its rows.

    Raises OSError or NotAFile where the file cannot be read, ArchiveMissing or ArchiveDamaged where what was archived
    of it cannot; then nothing has moved.
    """
    file = resolve_found(os.fspath(root), progress.path)
    if progress.archived:
        assert archive is not None
        if progress.cursor.offset < archived_size(progress.archived):
            return ReadOutcome(read_archived(progress, archive, max_line_bytes).batch, more=True)
        return _visit_beside(progress, file, max_line_bytes, now, limit)
    if progress.source.layout == "file":
        return _visit_event(progress, file, max_line_bytes, now)
    seen = read_lines(file, progress.cursor, max_line_bytes, limit)
    if seen.changed:
        return ReadOutcome(changed=True)
    progress.note_first_seen(seen.cursor.mtime_ns)
    batch = progress.ingest(seen.lines, seen.rejected) if seen.lines or seen.rejected else None
    progress.cursor = seen.cursor
    return ReadOutcome(batch, seen.more)


def _visit_event(progress: SourceState, file: str, max_line_bytes: int, now: float) -> ReadOutcome:
    status, cursor, line = read_whole_file(file, max_line_bytes)
    if progress.cursor.lines:
        if isinstance(line, int) or (cursor.head, cursor.offset) != (progress.cursor.head, progress.cursor.offset):
            return ReadOutcome(changed=True)
        progress.cursor = cursor
        return ReadOutcome()
    progress.note_first_seen(status.st_mtime_ns)
    if isinstance(line, int):
        batch = progress.ingest((), [Rejected(1, 0, line, TOO_LONG)], line_end=cursor.offset - line)
    else:
        batch = progress.ingest([line], line_end=cursor.offset - len(line.data))
        is_broken = bool(progress.rejected) and progress.rejected[-1].reason == NOT_JSON
        if is_broken and (age := _unchanged_for(progress, status, now)) < EVENT_FILE_GRACE:
            # It may still be being written. Nothing of it is kept, so that the next look begins anew.
            progress.begin_again()
            progress.cursor = NEW._replace(
                device=cursor.device, inode=cursor.inode, size=cursor.size, mtime_ns=cursor.mtime_ns
            )
            return ReadOutcome(retry_in=max(0.05, EVENT_FILE_GRACE - age))
    progress.cursor = cursor
    return ReadOutcome(batch)


def _unchanged_for(progress: SourceState, status: os.stat_result, now: float) -> float:
    """Seconds, by the file's own clock, which no program can set: a copy that keeps other times may be under way. Where
    that is ahead of ours, because ours was set back, by the time since the first look that found the file like this."""
    looks = (status.st_size, status.st_ctime_ns)
    if progress.waiting is None or progress.waiting[:2] != looks or now < progress.waiting[2]:
        progress.waiting = (*looks, now)
    return now - min(status.st_ctime, progress.waiting[2])


def _visit_beside(progress: SourceState, file: str, max_line_bytes: int, now: float, limit: int | None) -> ReadOutcome:
    """Look at the file of a log whose first bytes were archived; all of them have been taken."""
    parts = progress.archived
    cursor = in_file(progress.cursor, parts)
    status = os.lstat(file)
    if cursor.offset == 0 and (*identity(status), status.st_size, status.st_mtime_ns) == cursor[:4]:
        return ReadOutcome()  # as it was when it was archived: it is about to be deleted
    if cursor.offset < parts[-1].size <= status.st_size and archive_file.begins_with(Path(file), parts[-1]):
        progress.archived = parts[:-1]
        return ReadOutcome(changed=True, is_restored=True)
    if progress.source.layout == "file":
        return _visit_event_beside(progress, file, max_line_bytes, now)
    seen = read_lines(file, cursor, max_line_bytes, None if limit is None else limit - archived_size(parts))
    if seen.changed:
        return ReadOutcome(changed=True)
    lines, rejected = lines_in_log(seen.lines, seen.rejected, parts)
    batch = progress.ingest(lines, rejected) if lines or rejected else None
    progress.cursor = in_log(seen.cursor, parts)
    return ReadOutcome(batch, seen.more)


def _visit_event_beside(progress: SourceState, file: str, max_line_bytes: int, now: float) -> ReadOutcome:
    """The same for an event file: what has its name now is the next record of it."""
    parts = progress.archived
    known = in_file(progress.cursor, parts)
    status, cursor, line = read_whole_file(file, max_line_bytes)
    if known.lines:
        if isinstance(line, int) or (cursor.head, cursor.offset) != (known.head, known.offset):
            return ReadOutcome(changed=True)
        progress.cursor = in_log(cursor, parts)
        return ReadOutcome()
    if isinstance(line, int):
        refused = [Rejected(1, 0, line, TOO_LONG)]
        batch = progress.ingest((), lines_in_log([], refused, parts)[1], line_end=cursor.offset - line)
    else:
        age = _unchanged_for(progress, status, now)
        record = parse(line, progress.source.format, progress.named_type)
        if isinstance(record, Rejected) and record.reason == NOT_JSON and age < EVENT_FILE_GRACE:
            return ReadOutcome(retry_in=max(0.05, EVENT_FILE_GRACE - age))
        lines, _ = lines_in_log([line], [], parts)
        batch = progress.ingest(lines, line_end=cursor.offset - len(line.data))
    progress.cursor = in_log(cursor, parts)
    return ReadOutcome(batch)


# ---- what lies in the archive


class ArchivedRead(NamedTuple):
    """What a look at the archive brought; the progress has been moved on."""

    batch: Batch | None
    more: bool


def read_archived(progress: SourceState, archive: Archive, max_line_bytes: int) -> ArchivedRead:
    """Read the next lines of a log that are in the archive. Raises ArchiveMissing, ArchiveDamaged; then nothing has
    moved."""
    cursor = progress.cursor
    part, begin = _part_at(progress.archived, cursor.offset)
    if progress.source.layout == "file":
        data = _whole(archive, part, max_line_bytes)
        if data is None:
            batch = progress.ingest((), [Rejected(cursor.lines + 1, begin, part.size, TOO_LONG)], line_end=0)
        else:
            line = Line(begin, cursor.lines + 1, data.removesuffix(b"\n"))
            batch = progress.ingest([line], line_end=part.size - len(line.data))
        end, lines = begin + part.size, 1
    else:
        found, rejected, end = _lines(archive, part, begin, cursor, max_line_bytes)
        batch = progress.ingest(found, rejected)
        lines = len(found) + len(rejected)
    progress.cursor = Cursor(0, 0, 0, 0, end, cursor.lines + lines, 0, 0)
    return ArchivedRead(batch, end < archived_size(progress.archived))


def _part_at(parts: tuple[Extent, ...], offset: int) -> tuple[Extent, int]:
    begin = 0
    for part in parts:
        if offset < begin + part.size:
            return part, begin
        begin += part.size
    raise AssertionError(f"nothing at {offset} is archived")


def _whole(archive: Archive, part: Extent, max_line_bytes: int) -> bytes | None:
    """The one record of an event file; None where it is longer than a line may be."""
    if part.size > max_line_bytes + 1:
        return None
    data = archive.read(part.file, part.at, part.size)
    if len(data) != part.size:
        raise ArchiveDamaged(f"{archive.folder / part.file} ends before byte {part.at + part.size} of its content")
    return data


def _lines(
    archive: Archive, part: Extent, begin: int, cursor: Cursor, max_line_bytes: int
) -> tuple[list[Line], list[Rejected], int]:
    """Whole lines from the cursor on, about a chunk of them, and where they end."""
    offset, number = cursor.offset, cursor.lines + 1
    data = _chunk(archive, part, offset - begin)
    last = data.rfind(b"\n")
    if last < 0:
        return _long_line(archive, part, begin, cursor, max_line_bytes)
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
    archive: Archive, part: Extent, begin: int, cursor: Cursor, max_line_bytes: int
) -> tuple[list[Line], list[Rejected], int]:
    """One line that is longer than a chunk; kept no further than a line may be long."""
    length = 0
    held: list[bytes] = []
    while True:
        data = _chunk(archive, part, cursor.offset - begin + length)
        end = data.find(b"\n")
        length += len(data) if end < 0 else end
        if length <= max_line_bytes:
            held.append(data if end < 0 else data[:end])
        if end >= 0:
            break
    number, after = cursor.lines + 1, cursor.offset + length + 1
    if length > max_line_bytes:
        return [], [Rejected(number, cursor.offset, length, TOO_LONG)], after
    return [Line(cursor.offset, number, b"".join(held))], [], after


def _chunk(archive: Archive, part: Extent, position: int) -> bytes:
    data = archive.read(part.file, part.at + position, min(CHUNK_BYTES, part.size - position))
    if not data:  # what is archived ends with a line end
        raise ArchiveDamaged(f"{archive.folder / part.file} ends before byte {part.at + part.size} of its content")
    return data


def in_file(cursor: Cursor, parts: tuple[Extent, ...]) -> Cursor:
    """The cursor as the log's file has it, which begins behind what is archived."""
    return cursor._replace(
        offset=cursor.offset - archived_size(parts), lines=cursor.lines - sum(one.lines for one in parts)
    )


def in_log(cursor: Cursor, parts: tuple[Extent, ...]) -> Cursor:
    """The cursor as the log has it, from one of its file."""
    return cursor._replace(
        offset=cursor.offset + archived_size(parts), lines=cursor.lines + sum(one.lines for one in parts)
    )


def lines_in_log(
    lines: list[Line], rejected: list[Rejected], parts: tuple[Extent, ...]
) -> tuple[list[Line], list[Rejected]]:
    """Lines of the file, with the places that they have in the log."""
    size, count = archived_size(parts), sum(one.lines for one in parts)
    return (
        [Line(one.byte_offset + size, one.line_number + count, one.data) for one in lines],
        [one._replace(line_number=one.line_number + count, byte_offset=one.byte_offset + size) for one in rejected],
    )
