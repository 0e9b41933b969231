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
from sidecar.fs import found_under
from sidecar.logs import archive_file
from sidecar.logs.archive_file import Archive
from sidecar.logs.tail import CHUNK, NEW, Mark, identity, look, look_whole
from sidecar.records import Line, Part, Rejected, archived_size

from .parse import NOT_JSON, TOO_LONG, parse
from .source import Batch, Progress

SETTLED = 5.0
"""Seconds for which an event file that does not parse must stay unchanged to be rejected (section 7)."""


class Visit(NamedTuple):
    """What came of a look at a source, whose progress has been moved on."""

    batch: Batch | None = None
    more: bool = False
    """There is more to read now."""
    changed: bool = False
    """The file is another one than was read before; nothing was taken. Begin again."""
    again_in: float | None = None
    """Seconds until an unfinished event file counts as settled."""
    is_put_back: bool = False
    """Changed, in that the file begins with what had been archived of it."""


def visit(
    progress: Progress,
    root: Path,
    max_line_bytes: int,
    now: float,
    limit: int | None = None,
    archive: Archive | None = None,
) -> Visit:
    """Read the next chunk of a source, at most up to the byte `limit`, and derive its rows.

    Raises OSError or NotAFile where the file cannot be read, ArchiveMissing or ArchiveDamaged where what was archived
    of it cannot; then nothing has moved.
    """
    file = found_under(os.fspath(root), progress.path)
    if progress.archived:
        assert archive is not None
        if progress.mark.offset < archived_size(progress.archived):
            return Visit(replay(progress, archive, max_line_bytes).batch, more=True)
        return _visit_beside(progress, file, max_line_bytes, now, limit)
    if progress.source.layout == "file":
        return _visit_event(progress, file, max_line_bytes, now)
    seen = look(file, progress.mark, max_line_bytes, limit)
    if seen.changed:
        return Visit(changed=True)
    progress.first_seen(seen.mark.mtime_ns)
    batch = progress.take(seen.lines, seen.rejected) if seen.lines or seen.rejected else None
    progress.mark = seen.mark
    return Visit(batch, seen.more)


def _visit_event(progress: Progress, file: str, max_line_bytes: int, now: float) -> Visit:
    status, mark, line = look_whole(file, max_line_bytes)
    if progress.mark.lines:
        if isinstance(line, int) or (mark.head, mark.offset) != (progress.mark.head, progress.mark.offset):
            return Visit(changed=True)
        progress.mark = mark
        return Visit()
    progress.first_seen(status.st_mtime_ns)
    if isinstance(line, int):
        batch = progress.take((), [Rejected(1, 0, line, TOO_LONG)], line_end=mark.offset - line)
    else:
        batch = progress.take([line], line_end=mark.offset - len(line.data))
        is_broken = bool(progress.rejected) and progress.rejected[-1].reason == NOT_JSON
        if is_broken and (age := _unchanged_for(progress, status, now)) < SETTLED:
            # It may still be being written. Nothing of it is kept, so that the next look begins anew.
            progress.begin_again()
            progress.mark = NEW._replace(device=mark.device, inode=mark.inode, size=mark.size, mtime_ns=mark.mtime_ns)
            return Visit(again_in=max(0.05, SETTLED - age))
    progress.mark = mark
    return Visit(batch)


def _unchanged_for(progress: Progress, status: os.stat_result, now: float) -> float:
    """Seconds, by the file's own clock, which no program can set: a copy that keeps other times may be under way. Where
    that is ahead of ours, because ours was set back, by the time since the first look that found the file like this."""
    looks = (status.st_size, status.st_ctime_ns)
    if progress.waiting is None or progress.waiting[:2] != looks or now < progress.waiting[2]:
        progress.waiting = (*looks, now)
    return now - min(status.st_ctime, progress.waiting[2])


def _visit_beside(progress: Progress, file: str, max_line_bytes: int, now: float, limit: int | None) -> Visit:
    """Look at the file of a log whose first bytes were archived; all of them have been taken."""
    parts = progress.archived
    mark = in_file(progress.mark, parts)
    status = os.lstat(file)
    if mark.offset == 0 and (*identity(status), status.st_size, status.st_mtime_ns) == mark[:4]:
        return Visit()  # as it was when it was archived: it is about to be deleted
    if mark.offset < parts[-1].size <= status.st_size and archive_file.begins_with(Path(file), parts[-1]):
        progress.archived = parts[:-1]
        return Visit(changed=True, is_put_back=True)
    if progress.source.layout == "file":
        return _visit_event_beside(progress, file, max_line_bytes, now)
    seen = look(file, mark, max_line_bytes, None if limit is None else limit - archived_size(parts))
    if seen.changed:
        return Visit(changed=True)
    lines, rejected = lines_in_log(seen.lines, seen.rejected, parts)
    batch = progress.take(lines, rejected) if lines or rejected else None
    progress.mark = in_log(seen.mark, parts)
    return Visit(batch, seen.more)


def _visit_event_beside(progress: Progress, file: str, max_line_bytes: int, now: float) -> Visit:
    """The same for an event file: what has its name now is the next record of it."""
    parts = progress.archived
    known = in_file(progress.mark, parts)
    status, mark, line = look_whole(file, max_line_bytes)
    if known.lines:
        if isinstance(line, int) or (mark.head, mark.offset) != (known.head, known.offset):
            return Visit(changed=True)
        progress.mark = in_log(mark, parts)
        return Visit()
    if isinstance(line, int):
        refused = [Rejected(1, 0, line, TOO_LONG)]
        batch = progress.take((), lines_in_log([], refused, parts)[1], line_end=mark.offset - line)
    else:
        age = _unchanged_for(progress, status, now)
        record = parse(line, progress.source.format, progress.named_type)
        if isinstance(record, Rejected) and record.reason == NOT_JSON and age < SETTLED:
            return Visit(again_in=max(0.05, SETTLED - age))
        lines, _ = lines_in_log([line], [], parts)
        batch = progress.take(lines, line_end=mark.offset - len(line.data))
    progress.mark = in_log(mark, parts)
    return Visit(batch)


# ---- what lies in the archive


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
