"""Open sessions, the longest unused closed first. Only the thread that is writing a batch touches them, so no lock."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from sidecar.errors import WriterError

from .record import Place
from .session import Fsync, SessionWriter


class OpenSessions:
    """At most `limit` sessions (two descriptors each), opened when something is written to them.

    None stays open for more than `idle` seconds without a record, provided that somebody looks.
    """

    def __init__(self, root: str | os.PathLike[str], owner: str, fsync: Fsync, limit: int, idle: float) -> None:
        self._root = root
        self._owner = owner
        self._fsync = fsync
        self._limit = limit
        self._idle = idle
        self._open: OrderedDict[str, tuple[SessionWriter, float]] = OrderedDict()
        """With the time of their last use, the oldest first."""
        self._failure: WriterError | None = None

    def __len__(self) -> int:
        return len(self._open)

    def write(self, batch: Mapping[str, Sequence[bytes]], now: float) -> dict[str, list[Place | WriterError]]:
        """Append each session's lines with one call; for each line its place, or why it has none.

        A session that fails does not stop the others. `now` is the time of this use, in seconds of any clock.
        """
        outcomes: dict[str, list[Place | WriterError]] = {}
        for session_id, lines in batch.items():
            try:
                outcomes[session_id] = self._writer(session_id, now).append_lines(lines)
            except WriterError as error:
                outcomes[session_id] = [error] * len(lines)
        self.close_idle(now)
        return outcomes

    def close(self, session_id: str) -> None:
        """Give up one session; nothing happens where it is not open. Raises WriterError where fsync fails."""
        if session_id in self._open:
            writer, _ = self._open.pop(session_id)
            writer.close()

    def close_idle(self, now: float) -> None:
        """Close the sessions that are idle. What fails is told by `close_all`."""
        while self._open and next(iter(self._open.values()))[1] <= now - self._idle:
            self._close_oldest()

    def close_all(self) -> None:
        """Close every session, then raise the first WriterError that any closing, now or before, has met."""
        while self._open:
            self._close_oldest()
        if self._failure:
            raise self._failure

    def _writer(self, session_id: str, now: float) -> SessionWriter:
        known = self._open.pop(session_id, None)
        if known is None:
            while len(self._open) >= self._limit:
                self._close_oldest()
        writer = known[0] if known else SessionWriter(self._root, session_id, self._owner, self._fsync)
        self._open[session_id] = (writer, now)
        return writer

    def _close_oldest(self) -> None:
        _, (writer, _) = self._open.popitem(last=False)
        try:
            writer.close()
        except WriterError as error:
            self._failure = self._failure or error
