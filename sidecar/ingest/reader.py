"""Read the next lines of one source and derive their rows. Live indexing, rebuild and verify all read through
`read_next`.

A log consists of its archived bytes and, after them, the bytes of its file. So a session that its writer opens again
keeps its owner, its roles and its open requests, and old and new entries cannot be confused: offsets and line numbers
in the new file continue those of the archived bytes. A log that was never archived has 0 archived bytes.

There is one exception. A file that begins with the very bytes that were archived last is not a continuation: it is the
archived log itself, restored or not deleted yet, and it replaces that extent of the archive. While such a file is still
being restored it is taken for a continuation; once it is complete, the rows derived from it are dropped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from sidecar.config.settings import Settings
from sidecar.errors import ArchiveDamaged
from sidecar.fs import FileStat, resolve_found
from sidecar.logs import archive_file
from sidecar.logs.archive_file import Archive
from sidecar.logs.padding import Trimmed, is_not_utf8, may_be_padded, trim, trim_range
from sidecar.logs.parts import Part, has_bytes
from sidecar.logs.tail import CHUNK_BYTES, Cursor, read_lines, read_whole_file
from sidecar.records import NOT_UTF8, REPLACED, REWRITTEN, TRUNCATED, Extent, Line, Rejected, archived_size

from .parse import NOT_JSON, parse
from .second_reading import read_again
from .source import Batch, SourceState

EVENT_FILE_GRACE = 5.0
"""Seconds for which an event file that does not parse must stay unchanged before it is rejected (`docs/derivation.md`,
section 2)."""

MIN_RETRY_DELAY = 0.05
"""The shortest time, in seconds, before such a file is read again."""


class ReadOutcome(NamedTuple):
    """The result of `read_next`, which has also advanced the source's state."""

    batch: Batch | None = None
    more: bool = False
    """Whether there is more to read now."""
    changed: bool = False
    """Whether the file is not the one that was read before. If so, nothing was ingested: start again from its first
    byte."""
    retry_in: float | None = None
    """Seconds until an event file that does not parse has settled and may be rejected; None if there is no need to read
    it again."""
    moved: bool = False
    """Whether a file of the log is not the one that it was. If so, nothing was ingested, because the log may have been
    rotated: find its files (`logs.parts.realign`), then read again."""
    is_restored: bool = False
    """Whether `changed` is true though nothing is lost: the file begins with the bytes that were archived last, or an
    earlier part of the log has grown."""


def read_next(
    state: SourceState,
    root: Path,
    max_line_bytes: int,
    now: float,
    limit: int | None = None,
    archive: Archive | None = None,
) -> ReadOutcome:
    """Read the next chunk of a source, no further than byte `limit`, and derive its rows. `now` is in seconds since
    1970.

    Raises OSError or NotAFile if the file cannot be read, and ArchiveMissing or ArchiveDamaged if its archived bytes
    cannot. The state is unchanged then.
    """
    if state.at < len(state.parts):
        return _read_part(state, root, max_line_bytes)
    file = resolve_found(os.fspath(root), state.found_at.get(state.path, state.path))
    if state.archived:
        assert archive is not None
        if state.cursor.offset < archived_size(state.archived):
            return ReadOutcome(_read_archived(state, archive, max_line_bytes), more=True)
        if (outcome := _check_archived_copy(state, file)) is not None:
            return outcome
    if state.source.layout == "file":
        return _read_event_file(state, file, max_line_bytes, now)
    return _read_line_file(state, file, max_line_bytes, limit)


MAX_BYTES_AGAIN = 64 << 20
"""The most bytes of a renamed log whose new rows are all derived before the old ones are deleted."""


def rows_under_new_name(settings: Settings, new: SourceState, old: SourceState, now: float) -> list[Batch] | None:
    """The rows of a log that has another name now, up to where it was read under the old one. None if the file has
    other bytes, or if it is too long to hold all rows in memory. Raises OSError, SourceError."""
    end = old.cursor.offset
    if end > MAX_BYTES_AGAIN:
        return None
    if old.source.layout != "file" and not has_bytes(settings, new.path, old.cursor):
        return None
    batches = []
    while new.cursor.offset < end:
        outcome = read_next(new, settings.root, settings.max_line_bytes, now, end)
        if outcome.changed or outcome.moved or not (outcome.batch or outcome.more):
            return None
        if outcome.batch is not None:
            batches.append(outcome.batch)
    is_same_record = old.source.layout != "file" or new.cursor[4:8] == old.cursor[4:8]
    return batches if is_same_record else None


def reason_for_change(state: SourceState, root: Path) -> str:
    """Why a source's file no longer has the bytes that were read: one of `records.DROP_REASONS`. Raises OSError."""
    now = FileStat.of(os.lstat(resolve_found(os.fspath(root), state.path)))
    if now.identity != state.cursor[:2]:
        return REPLACED
    return TRUNCATED if now.size < state.cursor.offset - archived_size(state.archived) else REWRITTEN


def _check_archived_copy(state: SourceState, file: str) -> ReadOutcome | None:
    """The outcome if the file is the archived log itself, not deleted yet or restored; else None."""
    extents = state.archived
    cursor = _in_file(state.cursor, extents)
    status = os.lstat(file)
    if cursor.offset == 0 and FileStat.of(status) == cursor[:4]:
        # Unchanged since it was archived: it is about to be deleted.
        return ReadOutcome()
    if cursor.offset < extents[-1].size <= status.st_size and archive_file.begins_with(Path(file), extents[-1]):
        state.archived = extents[:-1]
        return ReadOutcome(changed=True, is_restored=True)
    return None


def _read_line_file(state: SourceState, file: str, max_line_bytes: int, limit: int | None) -> ReadOutcome:
    extents = state.archived
    file_limit = None if limit is None else limit - archived_size(extents)
    file_cursor = _in_file(state.cursor, extents)
    result = read_lines(file, file_cursor, max_line_bytes, file_limit)
    is_other = result.changed or result.cursor[:2] != file_cursor[:2]
    if is_other and file_cursor.inode and state.source.rotated and not extents:
        return ReadOutcome(moved=True)
    if result.changed:
        return ReadOutcome(changed=True)
    state.state.base = state.base_of(len(state.parts))
    if not extents:
        state.note_first_seen(result.cursor.mtime_ns)
    lines, rejected = _lines_in_log(result.lines, result.rejected, extents)
    if file_cursor.offset == 0:
        state.is_not_utf8 = False
    batch = state.ingest(lines, rejected, padding=result.padding) if lines or rejected else None
    state.cursor = _in_log(result.cursor, extents)
    return ReadOutcome(batch, result.more)


def _read_part(state: SourceState, root: Path, max_line_bytes: int) -> ReadOutcome:
    """Read the next chunk of an earlier part. If it has new lines although later parts have been read, the log has to
    be derived anew."""
    number = state.at
    path, before = state.parts[number]
    if before.offset == before.size > 0:
        state.at += 1
        return ReadOutcome(more=True)
    try:
        file = resolve_found(os.fspath(root), state.found_at.get(path, path))
        result = read_lines(file, before, max_line_bytes, state.limits.get(path))
    except FileNotFoundError:
        if not before.offset:
            return ReadOutcome(moved=True)
        # It is missing, like any file that is gone.
        state.at += 1
        return ReadOutcome(more=True)
    if result.changed or (before.inode and result.cursor[:2] != before[:2]):
        return ReadOutcome(moved=True)
    if (result.lines or result.rejected) and any(part.cursor.offset for part in state.files[number + 1 :]):
        return ReadOutcome(changed=True, is_restored=True)
    state.note_first_seen(result.cursor.mtime_ns)
    state.state.base = state.base_of(number)
    if before.offset == 0:
        state.is_not_utf8 = False
    has_lines = result.lines or result.rejected
    batch = state.ingest(result.lines, result.rejected, padding=result.padding) if has_lines else None
    state.parts = (*state.parts[:number], Part(path, result.cursor), *state.parts[number + 1 :])
    if not result.more:
        state.at += 1
    return ReadOutcome(batch, more=True)


def _read_event_file(state: SourceState, file: str, max_line_bytes: int, now: float) -> ReadOutcome:
    """Read an event file, which is one record. If it has the name of an archived event file, it is the next record of
    that log."""
    extents = state.archived
    known = _in_file(state.cursor, extents)
    status, cursor, line, padding = read_whole_file(file, max_line_bytes)
    if known.lines:
        if isinstance(line, Rejected) or (cursor.head, cursor.offset) != (known.head, known.offset):
            return ReadOutcome(changed=True)
        state.cursor = _in_log(cursor, extents)
        return ReadOutcome()
    if not extents:
        state.note_first_seen(cursor.mtime_ns)
    state.is_not_utf8 = False
    if isinstance(line, Rejected):
        _, rejected = _lines_in_log([], [line], extents)
        batch = state.ingest((), rejected, cursor.offset - line.byte_length - padding, padding)
    else:
        if (retry_in := _retry_in(state, line, status, now)) is not None:
            # Note what the file looks like, so that it is not read again before it changes. Not where bytes are
            # archived: there, a cursor that matches the file says that the file is the archived log itself.
            if not extents:
                state.cursor = cursor._replace(offset=0, lines=0, head=0)
            return ReadOutcome(retry_in=retry_in)
        lines, _ = _lines_in_log([line], [], extents)
        batch = state.ingest(lines, (), cursor.offset - len(line.data) - padding, padding)
    state.cursor = _in_log(cursor, extents)
    return ReadOutcome(batch)


def _retry_in(state: SourceState, line: Line, status: os.stat_result, now: float) -> float | None:
    """Seconds until an event file should be read again, because it may not be complete yet; None if it has settled or
    parses. Only a file that has just changed is parsed here, before it is ingested."""
    if now - status.st_ctime >= EVENT_FILE_GRACE:
        return None
    names = state.state.names
    record = parse(line, state.source.format, state.named_type, dict(names))
    if isinstance(record, Rejected) and record.reason == NOT_JSON:
        record = read_again(line, state.source.format, state.named_type, dict(names)).record
    if not isinstance(record, Rejected) or record.reason != NOT_JSON:
        return None
    age = _unchanged_for(state, status, now)
    return max(MIN_RETRY_DELAY, EVENT_FILE_GRACE - age) if age < EVENT_FILE_GRACE else None


def _unchanged_for(state: SourceState, status: os.stat_result, now: float) -> float:
    """Seconds since the file last changed. Goes by its ctime, which no program can set, because a copy that preserves
    the other times may be in progress. If the ctime lies in the future, because this machine's clock was set back, the
    time since the file was first read with its present size and ctime counts."""
    version = (status.st_size, status.st_ctime_ns)
    if state.waiting is None or state.waiting[:2] != version or now < state.waiting[2]:
        state.waiting = (*version, now)
    return now - min(status.st_ctime, state.waiting[2])


# ---- archived bytes


def _read_archived(state: SourceState, archive: Archive, max_line_bytes: int) -> Batch:
    """Read the next lines of a log that are in the archive, and derive their rows."""
    cursor = state.cursor
    extent, start = _extent_at(state.archived, cursor.offset)
    if cursor.offset == start:
        state.is_not_utf8 = False
    if state.source.layout == "file":
        lines, rejected, padding = _read_whole_extent(archive, extent, start, cursor.lines + 1, max_line_bytes)
        length = sum(len(line.data) for line in lines) + sum(one.byte_length for one in rejected)
        batch = state.ingest(lines, rejected, extent.size - length - padding, padding)
        end, count = start + extent.size, 1
    else:
        lines, rejected, padding, end = _read_archived_lines(
            archive, extent, start, cursor, max_line_bytes, not_utf8=state.is_not_utf8
        )
        batch = state.ingest(lines, rejected, padding=padding)
        count = len(lines) + len(rejected)
    state.cursor = Cursor(0, 0, 0, 0, end, cursor.lines + count, 0, 0)
    return batch


def _extent_at(extents: tuple[Extent, ...], offset: int) -> tuple[Extent, int]:
    """The extent that holds this offset of the log, and the offset at which the extent starts."""
    start = 0
    for extent in extents:
        if offset < start + extent.size:
            return extent, start
        start += extent.size
    raise AssertionError(f"nothing at {offset} is archived")


def _read_whole_extent(
    archive: Archive, extent: Extent, start: int, number: int, max_line_bytes: int
) -> tuple[list[Line], list[Rejected], int]:
    """The one record of an event file, as a line or a rejected line, and the number of bytes of its padding."""
    if extent.size <= CHUNK_BYTES:
        data = archive.read(extent.file, extent.at, extent.size)
        if len(data) != extent.size:
            raise _ends_early(archive, extent)
        return _split(trim(data.removesuffix(b"\n"), start, number, max_line_bytes, begins_file=True))
    end = start + extent.size
    end -= archive.read(extent.file, extent.at + extent.size - 1, 1) == b"\n"
    return _split(_trim_archived(archive, extent, start, start, end, number, max_line_bytes))


def _read_archived_lines(
    archive: Archive, extent: Extent, start: int, cursor: Cursor, max_line_bytes: int, *, not_utf8: bool
) -> tuple[list[Line], list[Rejected], int, int]:
    """About a chunk of whole lines from the cursor on: those that are read, those that are rejected, the number of
    bytes of their padding, and the offset at which they end."""
    offset, number = cursor.offset, cursor.lines + 1
    data = _read_chunk(archive, extent, offset - start)
    last = data.rfind(b"\n")
    not_utf8 = not_utf8 or (offset == start and is_not_utf8(data))
    if last < 0:
        end = offset + _length_of_line(archive, extent, offset - start)
        if not_utf8:
            return [], [Rejected(number, offset, end - offset, NOT_UTF8)], 0, end + 1
        trimmed = _trim_archived(archive, extent, start, offset, end, number, max_line_bytes)
        return *_split(trimmed), end + 1
    lines: list[Line] = []
    rejected: list[Rejected] = []
    padding = 0
    is_padded = may_be_padded(data, begins_file=offset == start)
    for text in data[:last].split(b"\n"):
        if not_utf8:
            rejected.append(Rejected(number, offset, len(text), NOT_UTF8))
        elif len(text) <= max_line_bytes and not is_padded:
            lines.append(Line(offset, number, text))
        else:
            its_lines, its_rejected, its_padding = _split(
                trim(text, offset, number, max_line_bytes, begins_file=offset == start)
            )
            lines += its_lines
            rejected += its_rejected
            padding += its_padding
        number += 1
        offset += len(text) + 1
    return lines, rejected, padding, offset


def _split(trimmed: Trimmed) -> tuple[list[Line], list[Rejected], int]:
    line, padding = trimmed
    return ([line], [], padding) if isinstance(line, Line) else ([], [line], padding)


def _trim_archived(
    archive: Archive, extent: Extent, start: int, offset: int, end: int, number: int, max_line_bytes: int
) -> Trimmed:
    """The line from `offset` to `end` of the log, without its padding. Its extent begins at `start`."""

    def read(position: int, length: int) -> bytes:
        data = archive.read(extent.file, extent.at + position - start, length)
        if len(data) != length:
            raise _ends_early(archive, extent)
        return data

    return trim_range(read, offset, end, number, max_line_bytes, begins_file=offset == start)


def _length_of_line(archive: Archive, extent: Extent, position: int) -> int:
    """The length of a line that is longer than a chunk and begins at this position of an extent."""
    length = 0
    while True:
        data = _read_chunk(archive, extent, position + length)
        end = data.find(b"\n")
        if end >= 0:
            return length + end
        length += len(data)


def _read_chunk(archive: Archive, extent: Extent, position: int) -> bytes:
    data = archive.read(extent.file, extent.at + position, min(CHUNK_BYTES, extent.size - position))
    # Archived lines always end with an LF, so there must be more.
    if not data:
        raise _ends_early(archive, extent)
    return data


def _ends_early(archive: Archive, extent: Extent) -> ArchiveDamaged:
    return ArchiveDamaged(f"{archive.folder / extent.file} ends before byte {extent.at + extent.size} of its content")


# ---- positions in the file, and in the log


def _in_file(cursor: Cursor, extents: tuple[Extent, ...]) -> Cursor:
    """A cursor of the log, as a cursor of its file, which begins after the archived bytes."""
    return _shifted(cursor, -1, extents) if extents else cursor


def _in_log(cursor: Cursor, extents: tuple[Extent, ...]) -> Cursor:
    """A cursor of the file, as a cursor of its log."""
    return _shifted(cursor, 1, extents) if extents else cursor


def _shifted(cursor: Cursor, sign: int, extents: tuple[Extent, ...]) -> Cursor:
    size, count = archived_size(extents), sum(extent.lines for extent in extents)
    return cursor._replace(offset=cursor.offset + sign * size, lines=cursor.lines + sign * count)


def _lines_in_log(
    lines: list[Line], rejected: list[Rejected], extents: tuple[Extent, ...]
) -> tuple[list[Line], list[Rejected]]:
    """Lines of the file, with their positions in the log."""
    if not extents:
        return lines, rejected
    size, count = archived_size(extents), sum(extent.lines for extent in extents)
    return (
        [Line(line.byte_offset + size, line.line_number + count, line.data) for line in lines],
        [one._replace(line_number=one.line_number + count, byte_offset=one.byte_offset + size) for one in rejected],
    )
