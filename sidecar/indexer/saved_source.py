"""What a checkpoint keeps of a source: plain values, which can also come from a worker process."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from sidecar.ingest.linking import Request
from sidecar.ingest.source import SourceState
from sidecar.logs.tail import Cursor
from sidecar.store.codec import encode_state


class SavedSource(NamedTuple):
    """What a checkpoint keeps of a source: plain values, which can also come from another process."""

    source: tuple[Any, ...]
    opened: list[tuple[Any, ...]]
    closed: list[int]
    roles: list[tuple[str, str]]
    rejected: list[tuple[Any, ...]]
    sessions: list[tuple[str, tuple[Any, ...]]]
    archived: list[tuple[Any, ...]]

    @property
    def path(self) -> str:
        """The path of the source."""
        return str(self.source[1])

    @property
    def cursor(self) -> Cursor:
        """How far its log was read."""
        return Cursor(*self.source[5:13])


def to_save(progress: SourceState) -> SavedSource:
    """What changed of a source since this was last asked, and where it stands now."""
    state, requests, counts = progress.state, progress.state.requests, progress.counts
    packed = encode_state(
        {
            "timestamp": state.timestamp,
            "owner": state.owner,
            "answered": list(requests.answered),
            "early": requests.early,
        }
    )
    # A rebuild has read it in the archive alone; live, the file is there until it is seen to be gone.
    is_away = bool(progress.archived) and not progress.cursor.inode
    saved = SavedSource(
        (
            *(progress.id, progress.path, progress.source.layout, state.stem, progress.first_mtime),
            *progress.cursor[:8],
            *(counts.indexed, counts.blank, counts.rejected, counts.skipped, counts.entries),
            *("archived" if is_away else "ok", packed),
        ),
        [_open_values(requests.open[offset]) for offset in sorted(requests.opened)],
        sorted(requests.closed),
        sorted(state.new_roles.items()),
        [tuple(rejected) for rejected in progress.rejected],
        [(session, tuple(note)) for session, note in progress.sessions.items()],
        list(map(tuple, progress.archived)),
    )
    progress.rejected = []
    progress.sessions = {}
    state.new_roles = {}
    requests.forget_changes()
    return saved


def _open_values(request: Request) -> tuple[object, ...]:
    return (
        request.byte_offset,
        request.day,
        request.correlation,
        request.author,
        orjson.dumps(request.addressees).decode(),
        request.pattern,
        request.conversation,
        request.expects,
    )
