"""Take a last line without LF as it stands, if it is a whole record and its file has been unchanged for a while."""

from __future__ import annotations

from math import isinf

from sidecar.logs.last_line import Unended, mark_of, read_unended
from sidecar.logs.tail import Cursor
from sidecar.records import Line, Rejected

from .archived_lines import lines_in_log
from .parse import NOT_JSON, parse
from .second_reading import read_again
from .source import Batch, SourceState

SETTLED_AFTER = 60.0
"""Seconds for which a file must be unchanged, by its modification time, before its last line is taken without an LF
(`docs/derivation.md`, section 2)."""


def look(
    state: SourceState, file: str, cursor: Cursor, max_line_bytes: int, limit: int | None, now: float
) -> Unended | float | None:
    """The last line of a file, if it is to be taken; else the seconds until it may be, if its file does not change, or
    None if it has to change first. `cursor` is that of the file after everything before the line has been read.

    The rest of the arguments are those of `reader.read_next`. Raises OSError and NotAFile.
    """
    end = cursor.offset + cursor.scanned
    is_at_limit = limit is not None and isinf(now) and end == limit
    if not cursor.written or state.is_not_utf8 or not (end == cursor.size or is_at_limit):
        return None
    age = now - cursor.mtime_ns / 1e9
    if age < SETTLED_AFTER:
        # The time may lie in the future.
        return SETTLED_AFTER - age if age >= 0.0 else None
    version = (cursor.size, cursor.mtime_ns, mark_of(file, cursor))
    if version == state.unfinished:
        return None
    unended = read_unended(file, cursor, max_line_bytes)
    if unended is not None and _is_record(state, unended.line):
        return unended
    state.unfinished = version
    return None


def ingest(state: SourceState, unended: Unended) -> tuple[Batch, bool]:
    """Derive the row of a last line without LF. Returns it, and whether its record is skipped instead. The cursor is
    left to the caller."""
    skipped = state.counts.skipped
    lines, _ = lines_in_log([unended.line], [], state.archived)
    batch = state.ingest(lines, (), 0, unended.padding)
    return batch, state.counts.skipped > skipped


def _is_record(state: SourceState, line: Line) -> bool:
    format_, named_type, names = state.source.format, state.named_type, state.state.names
    record = parse(line, format_, named_type, dict(names))
    if isinstance(record, Rejected) and record.reason == NOT_JSON:
        record = read_again(line, format_, named_type, dict(names)).record
    return not isinstance(record, Rejected)
