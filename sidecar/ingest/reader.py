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
from math import inf
from pathlib import Path
from typing import NamedTuple

from sidecar.config.settings import Settings
from sidecar.fs import FileStat, resolve_found
from sidecar.logs import archive_file
from sidecar.logs.archive_file import Archive
from sidecar.logs.last_line import OpenEnd, Since, Unended, is_behind_line_end, since_taken
from sidecar.logs.parts import Part, has_bytes
from sidecar.logs.tail import Cursor, read_lines, read_whole_file
from sidecar.records import REPLACED, REWRITTEN, TRUNCATED, Line, Rejected, archived_size

from . import last_line
from .archived_lines import in_file, in_log, lines_in_log, read_archived
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
    """Seconds until the file should be read again though it does not change, because an event file that does not parse
    may be rejected then, or a last line without LF be taken; None if there is no need to."""
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
    1970; infinite if all that is before `limit` was read once before, so that a last line without LF was taken.

    Raises OSError or NotAFile if the file cannot be read, and ArchiveMissing or ArchiveDamaged if its archived bytes
    cannot. The state is unchanged then.
    """
    if state.at < len(state.parts):
        return _read_part(state, root, max_line_bytes, now)
    file = resolve_found(os.fspath(root), state.found_at.get(state.path, state.path))
    if state.archived:
        assert archive is not None
        if state.cursor.offset < archived_size(state.archived):
            return ReadOutcome(read_archived(state, archive, max_line_bytes), more=True)
        if (outcome := _check_archived_copy(state, file)) is not None:
            return outcome
    if state.source.layout == "file":
        return _read_event_file(state, file, max_line_bytes, now)
    return _read_line_file(state, file, max_line_bytes, limit, now)


MAX_BYTES_AGAIN = 64 << 20
"""The most bytes of a renamed log whose new rows are all derived before the old ones are deleted."""


def rows_under_new_name(settings: Settings, new: SourceState, old: SourceState) -> list[Batch] | None:
    """The rows of a log that has another name now, up to where it was read under the old one. None if the file has
    other bytes, or if it is too long to hold all rows in memory. Raises OSError, SourceError."""
    end = old.cursor.offset
    if end > MAX_BYTES_AGAIN:
        return None
    if old.source.layout != "file" and not has_bytes(settings, new.path, old.cursor):
        return None
    batches = []
    while new.cursor.offset < end:
        outcome = read_next(new, settings.root, settings.max_line_bytes, inf, end)
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
    cursor = in_file(state.cursor, extents)
    status = os.lstat(file)
    if cursor.offset == 0 and FileStat.of(status) == cursor[:4]:
        # Unchanged since it was archived: it is about to be deleted.
        return ReadOutcome()
    if cursor.offset < extents[-1].size <= status.st_size and archive_file.begins_with(Path(file), extents[-1]):
        state.archived = extents[:-1]
        return ReadOutcome(changed=True, is_restored=True)
    return None


def _read_line_file(state: SourceState, file: str, max_line_bytes: int, limit: int | None, now: float) -> ReadOutcome:
    extents = state.archived
    if state.open_end is not None and (outcome := _read_past_open_end(state, file, state.open_end)) is not None:
        return outcome
    file_cursor = in_file(state.cursor, extents)
    file_limit = None if limit is None else limit - archived_size(extents)
    result = read_lines(file, file_cursor, max_line_bytes, file_limit)
    if result.changed or result.cursor[:2] != file_cursor[:2]:
        if _may_be_rotated(state, file_cursor):
            return ReadOutcome(moved=True)
        if result.changed:
            return ReadOutcome(changed=True)
    state.state.base = state.base_of(len(state.parts))
    if not extents:
        state.note_first_seen(result.cursor.mtime_ns)
    lines, rejected = lines_in_log(result.lines, result.rejected, extents)
    if file_cursor.offset == 0:
        state.is_not_utf8 = False
    batch = state.ingest(lines, rejected, padding=result.padding) if lines or rejected else None
    state.cursor = in_log(result.cursor, extents)
    if result.more:
        return ReadOutcome(batch, more=True)
    unended = last_line.look(state, file, result.cursor, max_line_bytes, file_limit, now)
    if not isinstance(unended, Unended):
        return ReadOutcome(batch, retry_in=unended)
    if batch is not None:
        return ReadOutcome(batch, more=True)
    batch, is_skipped = last_line.ingest(state, unended)
    state.cursor = in_log(unended.cursor, extents)
    state.open_end = OpenEnd(unended.nuls, unended.mark, is_skipped)
    return ReadOutcome(batch)


def _may_be_rotated(state: SourceState, file_cursor: Cursor) -> bool:
    return bool(file_cursor.inode and state.source.rotated and not state.archived)


def _read_past_open_end(state: SourceState, file: str, end: OpenEnd) -> ReadOutcome | None:
    """The outcome if the last line, which was taken without an LF, still has none. Else None: then the state is behind
    it."""
    known = in_file(state.cursor, state.archived)
    since, cursor = since_taken(file, known, end)
    match since:
        case Since.ENDED:
            # The line is what it was, so its row stays.
            state.count_line_end(is_skipped=end.is_skipped)
            state.cursor, state.open_end = in_log(cursor, state.archived), None
            return None
        case Since.GROWN:
            # The row depends on the line, and so may all that was derived from it: read the log again.
            return ReadOutcome(changed=True, is_restored=True)
    if (since is Since.OTHER or cursor[:2] != known[:2]) and _may_be_rotated(state, known):
        return ReadOutcome(moved=True)
    if since is Since.OTHER:
        return ReadOutcome(changed=True)
    state.cursor = in_log(cursor, state.archived)
    return ReadOutcome()


def _read_part(state: SourceState, root: Path, max_line_bytes: int, now: float) -> ReadOutcome:
    """Read the next chunk of an earlier part. If it has new lines although later parts have been read, the log has to
    be derived anew; likewise if a last line that was taken without an LF has grown."""
    number = state.at
    path, before = state.parts[number]
    if before.offset == before.size > 0:
        state.at += 1
        return ReadOutcome(more=True)
    limit = state.limits.get(path)
    unended: Unended | float | None = None
    try:
        file = resolve_found(os.fspath(root), state.found_at.get(path, path))
        result = read_lines(file, before, max_line_bytes, limit)
        is_open_end = not is_behind_line_end(file, before.offset)
        if not (result.changed or result.more or result.lines or result.rejected):
            unended = last_line.look(state, file, result.cursor, max_line_bytes, limit, now)
    except FileNotFoundError:
        if not before.offset:
            return ReadOutcome(moved=True)
        # It is missing, like any file that is gone.
        state.at += 1
        return ReadOutcome(more=True)
    if result.changed or (before.inode and result.cursor[:2] != before[:2]):
        return ReadOutcome(moved=True)
    has_lines = bool(result.lines or result.rejected)
    is_taken = isinstance(unended, Unended)
    if is_open_end or ((has_lines or is_taken) and any(part.cursor.offset for part in state.files[number + 1 :])):
        return ReadOutcome(changed=True, is_restored=True)
    state.note_first_seen(result.cursor.mtime_ns)
    state.state.base = state.base_of(number)
    if before.offset == 0:
        state.is_not_utf8 = False
    batch, cursor = None, result.cursor
    if isinstance(unended, Unended):
        batch, cursor = last_line.ingest(state, unended)[0], unended.cursor
    elif has_lines:
        batch = state.ingest(result.lines, result.rejected, padding=result.padding)
    state.parts = (*state.parts[:number], Part(path, cursor), *state.parts[number + 1 :])
    if not (result.more or (has_lines and cursor.scanned)):
        state.at += 1
    return ReadOutcome(batch, more=True)


def _read_event_file(state: SourceState, file: str, max_line_bytes: int, now: float) -> ReadOutcome:
    """Read an event file, which is one record. If it has the name of an archived event file, it is the next record of
    that log."""
    extents = state.archived
    known = in_file(state.cursor, extents)
    status, cursor, line, padding = read_whole_file(file, max_line_bytes)
    if known.lines:
        if isinstance(line, Rejected) or (cursor.head, cursor.offset) != (known.head, known.offset):
            return ReadOutcome(changed=True)
        state.cursor = in_log(cursor, extents)
        return ReadOutcome()
    if not extents:
        state.note_first_seen(cursor.mtime_ns)
    state.is_not_utf8 = False
    if isinstance(line, Rejected):
        _, rejected = lines_in_log([], [line], extents)
        batch = state.ingest((), rejected, cursor.offset - line.byte_length - padding, padding)
    else:
        if (retry_in := _retry_in(state, line, status, now)) is not None:
            # Note what the file looks like, so that it is not read again before it changes. Not where bytes are
            # archived: there, a cursor that matches the file says that the file is the archived log itself.
            if not extents:
                state.cursor = cursor._replace(offset=0, lines=0, head=0)
            return ReadOutcome(retry_in=retry_in)
        lines, _ = lines_in_log([line], [], extents)
        batch = state.ingest(lines, (), cursor.offset - len(line.data) - padding, padding)
    state.cursor = in_log(cursor, extents)
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
