"""What a checkpoint saves of a source, as rows of the catalog. Worker processes send it as well."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from sidecar.ingest.crowd import Crowd
from sidecar.ingest.linking import Request, correlation_key
from sidecar.ingest.source import SourceState
from sidecar.logs.last_line import OpenEnd
from sidecar.logs.tail import Cursor
from sidecar.store.codec import encode_state, pack_places


class SavedSource(NamedTuple):
    """The row of a source, and what has changed in the tables that belong to it. It can be pickled."""

    source: tuple[Any, ...]
    """The columns of the table `source`, in their order."""
    opened: list[tuple[Any, ...]]
    """Open requests to be added: all columns of `open_request` but the source."""
    closed: list[int]
    """Byte offsets of requests that are no longer open."""
    roles: list[tuple[str, str]]
    """Agents with their new roles."""
    rejected: list[tuple[Any, ...]]
    """Lines to be added to `rejected_line`."""
    sessions: list[tuple[str, tuple[Any, ...]]]
    """Session ids with what the source says about them (`ingest.source.SessionNote`)."""
    archived: list[tuple[Any, ...]]
    """All extents of the source (`records.Extent`)."""
    loose: list[tuple[str, bool]]
    """Correlations of answers that belong to no request of the log, each with whether there still is one; of sources
    with answers across files."""
    parts: list[tuple[Any, ...]] = []  # noqa: RUF012 -- a named tuple's default
    """All earlier parts of the log, as the columns of the table `part` after `source`."""

    @property
    def path(self) -> str:
        """The path of the source."""
        return str(self.source[1])

    def placed(self, position: int) -> tuple[str, int]:
        """The path of the file in which a position in the log is, and the byte offset in it."""
        end = 0
        for _, path, *cursor, base in self.parts:
            offset = Cursor(*cursor).offset
            if position < base + offset:
                return path, position - base
            end = base + offset
        return self.path, position - end

    @property
    def cursor(self) -> Cursor:
        """How far the log was read."""
        return Cursor(*self.source[5:13])


def to_save(progress: SourceState) -> SavedSource:
    """What a checkpoint has to save of a source. Its state then counts as saved: the next call returns what changes
    from here on. If the saving fails, the state is worth nothing (see `index_writer.py`)."""
    state, requests, counts = progress.state, progress.state.requests, progress.counts
    packed = encode_state(
        {
            "timestamp": state.timestamp,
            "owner": state.owner,
            "answered": pack_places(requests.answered),
            "early": requests.early,
            "kept": {name: state.names[name] for name in sorted(progress.source.format.kept & state.names.keys())},
            "not_utf8": progress.is_not_utf8,
            "open_end": None if progress.open_end is None else list(progress.open_end),
        }
    )
    # Only a rebuild reads a log that has no file any more; otherwise the file exists until it is found missing.
    is_away = bool(progress.archived) and not progress.cursor.inode
    is_across = requests.loose is not None
    saved = SavedSource(
        (
            *(progress.id, progress.path, progress.source.layout, state.ids_begin, progress.first_mtime),
            *progress.cursor[:8],
            *(counts.indexed, counts.blank, counts.rejected, counts.skipped, counts.entries),
            *(counts.inherited, counts.undated, counts.unreadable, counts.repaired),
            *("archived" if is_away else "ok", packed),
        ),
        [_open_values(requests.open[offset], state.ids_begin, is_across) for offset in sorted(requests.opened)],
        sorted(requests.closed),
        sorted(state.new_roles.items()),
        [tuple(rejected) for rejected in progress.rejected],
        [(session, tuple(note)) for session, note in progress.sessions.items()],
        list(map(tuple, progress.archived)),
        sorted(requests.loose.items()) if requests.loose is not None else [],
        part_values(progress),
    )
    progress.rejected = []
    progress.sessions = {}
    state.new_roles = {}
    requests.forget_changes()
    return saved


def part_values(progress: SourceState) -> list[tuple[Any, ...]]:
    """The rows of the table `part` for a source, without its number. Parts of which nothing was read are left out."""
    parts = enumerate(progress.parts)
    return [(number, path, *cursor[:8], progress.base_of(number)) for number, (path, cursor) in parts if cursor.offset]


def _open_values(request: Request, ids_begin: str, is_across: bool) -> tuple[object, ...]:
    to = request.addressees
    return (
        request.byte_offset,
        request.correlation,
        request.author,
        to.packed if isinstance(to, Crowd) else orjson.dumps(to).decode(),
        request.pattern,
        None if request.conversation == ids_begin else request.conversation,
        request.expects,
        request.timestamp,
        correlation_key(request.correlation) if is_across and request.correlation is not None else None,
    )


def saved_addressees(value: Any) -> tuple[str, ...] | Crowd:
    """The addressees of an open request, as they were saved. Raises TypeError, ValueError or zlib.error for others."""
    if value.__class__ is bytes:
        crowd = Crowd(value)
        # Checked here, because later nobody would know from which file it came.
        _ = crowd.names
        return crowd
    names = tuple(orjson.loads(value))
    if any(name.__class__ is not str for name in names):
        raise TypeError(f"addressees {value!r}")
    return names


def open_end(values: list[int] | None) -> OpenEnd | None:
    """What is known of a last line that was taken without an LF, as it was saved. Raises
    TypeError and ValueError for what was not."""
    if values is None:
        return None
    nuls, mark, is_skipped = values
    if nuls.__class__ is not int or nuls < 0 or mark.__class__ is not int:
        raise TypeError(f"an open end {values}")
    return OpenEnd(nuls, mark, bool(is_skipped))


def kept_values(values: dict[str, Any]) -> dict[str, str]:
    """The values that a format keeps, as they were saved. Raises TypeError for others."""
    if any(value.__class__ is not str for value in values.values()):
        raise TypeError("a kept value is not a string")
    return values
