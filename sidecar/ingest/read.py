"""One look at one source: tail, then fold. Live indexing, rebuild and verify read files through this alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from sidecar.logs.archive import Archive
from sidecar.logs.tail import NEW, identity, look, look_whole
from sidecar.paths import found_under
from sidecar.records import Rejected, archived_size

from . import replay
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
            return Visit(replay.replay(progress, archive, max_line_bytes).batch, more=True)
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
            progress.mark = NEW._replace(
                device=mark.device, inode=mark.inode, size=mark.size, mtime_ns=mark.mtime_ns
            )
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
    mark = replay.in_file(progress.mark, parts)
    status = os.lstat(file)
    if mark.offset == 0 and (*identity(status), status.st_size, status.st_mtime_ns) == mark[:4]:
        return Visit()  # as it was when it was archived: it is about to be deleted
    if mark.offset < parts[-1].size <= status.st_size and replay.begins_with(Path(file), parts[-1]):
        progress.archived = parts[:-1]
        return Visit(changed=True, is_put_back=True)
    if progress.source.layout == "file":
        return _visit_event_beside(progress, file, max_line_bytes, now)
    seen = look(file, mark, max_line_bytes, None if limit is None else limit - archived_size(parts))
    if seen.changed:
        return Visit(changed=True)
    lines, rejected = replay.lines_in_log(seen.lines, seen.rejected, parts)
    batch = progress.take(lines, rejected) if lines or rejected else None
    progress.mark = replay.in_log(seen.mark, parts)
    return Visit(batch, seen.more)


def _visit_event_beside(progress: Progress, file: str, max_line_bytes: int, now: float) -> Visit:
    """The same for an event file: what has its name now is the next record of it."""
    parts = progress.archived
    known = replay.in_file(progress.mark, parts)
    status, mark, line = look_whole(file, max_line_bytes)
    if known.lines:
        if isinstance(line, int) or (mark.head, mark.offset) != (known.head, known.offset):
            return Visit(changed=True)
        progress.mark = replay.in_log(mark, parts)
        return Visit()
    if isinstance(line, int):
        refused = [Rejected(1, 0, line, TOO_LONG)]
        batch = progress.take((), replay.lines_in_log([], refused, parts)[1], line_end=mark.offset - line)
    else:
        age = _unchanged_for(progress, status, now)
        record = parse(line, progress.source.format, progress.named_type)
        if isinstance(record, Rejected) and record.reason == NOT_JSON and age < SETTLED:
            return Visit(again_in=max(0.05, SETTLED - age))
        lines, _ = replay.lines_in_log([line], [], parts)
        batch = progress.take(lines, line_end=mark.offset - len(line.data))
    progress.mark = replay.in_log(mark, parts)
    return Visit(batch)
