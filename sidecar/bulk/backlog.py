"""Very many new sources at once: worker processes read them, and the indexing thread goes on meanwhile.

A hundred thousand files that are created, unpacked or moved in at once would keep one thread busy for many seconds,
and new lines of other files would wait for it. So a slice of them at a time is read by workers, as in a rebuild, into
segments (`workers.py`), and the indexing thread merges the segments into the daily files.

At any moment at most one process reads a file: a source in flight is not read by the indexing thread until it has come
back. A slice can end in three ways:

- It comes back, and its rows are committed together with the number of the checkpoint that will cover them. A crash
  before that checkpoint rolls them back, like all others (`indexer/day_files.py`).
- The sidecar is killed, stopped, or drops what is in memory before that. Then nothing of the slice is in the index, and
  the next scan finds its files as new as before. The segments lie in a folder that the next start deletes; the workers
  end when the pipe to them is closed.
- A worker fails: it dies, a log is rewritten while it is read, the disk is full. Then the indexing thread reads the
  files of the slice itself, and reports what is wrong with which of them.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import suppress
from typing import NamedTuple

from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import SidecarError
from sidecar.guarded import GuardedFolder
from sidecar.indexer.index_writer import IndexWriter
from sidecar.indexer.saved_source import SavedSource
from sidecar.logs.tail import CHUNK_BYTES

from .messages import ClosedSegments, ReadChunk, ReadSources, ReadTask, Result
from .workers import WorkerPool

BACKLOG_FOLDER = "incoming"
"""Folder in the index folder for segments that are not merged yet."""
START_WORKERS_AT = 10_000
"""New sources for which workers are started; the indexing thread reads fewer in less than a second."""
DISPATCH_AT = 1_000
"""New sources, at least, that are handed to running workers. Before workers run, so many wait for the end of a scan,
which may find more."""
MAX_IN_FLIGHT = 20_000
"""Sources in a slice, at most: it is merged in one turn, in which new lines of other files wait."""
MAX_WORKERS = 4
"""Workers, at most: one thread merges what they read."""


class BacklogTurn(NamedTuple):
    """The result of one turn."""

    again: list[str]
    """Paths for the indexing thread to read."""
    entries: int = 0
    """Entries that workers have read, and that are now in the index."""
    bytes: int = 0
    """Bytes of log that workers have read."""


class Backlog:
    """New sources that wait, and the workers that read them if they are many. Only the indexing thread uses it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._segments: GuardedFolder | None = None
        """The folder that workers write in, open while there are any."""
        self._new: dict[str, None] = {}
        """Paths that wait, in the order in which they came."""
        self._in_flight: dict[str, None] = {}
        """Paths of the slice that workers are reading, in the order in which they were handed out."""
        self._pool: WorkerPool | None = None
        self._results: list[Result] = []
        """What workers have reported of the slice in flight."""
        self._handed_out_at = 0
        """When the slice in flight was handed out, in nanoseconds since 1970."""

    def __len__(self) -> int:
        """Sources that wait or are in flight."""
        return len(self._new) + len(self._in_flight)

    def add(self, path: str) -> None:
        """Add a source that the index does not know."""
        self._new[path] = None

    def is_out(self, path: str) -> bool:
        """Whether a source is in flight: a worker may be reading it now."""
        return path in self._in_flight

    def turn(self, writer: IndexWriter, wait: float, *, is_scanning: bool) -> BacklogTurn:
        """Merge a slice that has come back and hand out the next; wait for the workers at most `wait` seconds.

        While a scan is on, sources that are neither few nor many enough for workers stay, because it may find more.
        Raises what `IndexWriter.merge_segments` raises.
        """
        if self._pool is None and len(self._new) < START_WORKERS_AT:
            return BacklogTurn([] if is_scanning and len(self._new) >= DISPATCH_AT else self._take_new())
        try:
            if self._pool is None:
                self._pool = self._start()
            self._results += self._pool.poll(wait)
        except (OSError, SidecarError) as error:
            get_logger(__name__).warning("worker processes failed, reading without them: %s", error)
            given_back = [*self._in_flight, *self._take_new()]
            self.close()
            return BacklogTurn(given_back)
        return self._next_slice(writer, self._pool) if self._pool.is_idle else BacklogTurn([])

    def _start(self) -> WorkerPool:
        self.clear()
        with GuardedFolder.open_own(self._settings.index_folder) as index:
            self._segments = index.folder(BACKLOG_FOLDER, create=True)
        return WorkerPool(self._settings, min(MAX_WORKERS, os.cpu_count() or 1), self._segments)

    def _next_slice(self, writer: IndexWriter, pool: WorkerPool) -> BacklogTurn:
        """Hand out the next slice, and merge the one that has come back while workers read."""
        results, self._results = self._results, []
        came_back, self._in_flight = self._in_flight, {}
        began = self._handed_out_at
        again = self._hand_out(writer, pool, came_back)
        saved = [one for one in results if isinstance(one, SavedSource)]
        segments: defaultdict[int, list[str]] = defaultdict(list)
        for closed in results:
            if isinstance(closed, ClosedSegments):
                for day, names in closed.by_day.items():
                    segments[day] += names
        assert self._segments is not None
        writer.merge_segments(self._segments, dict(segments), saved, began)
        if not self:
            self.close()
        chunks = [one for one in results if isinstance(one, ReadChunk)]
        return BacklogTurn(
            [*_to_continue(came_back, saved), *again],
            sum(one.entries for one in chunks),
            sum(one.bytes for one in chunks),
        )

    def _hand_out(self, writer: IndexWriter, pool: WorkerPool, came_back: dict[str, None]) -> list[str]:
        """Hand the next slice to the workers. Returns paths for the indexing thread: of sources that are not new any
        more, or of all that wait where they are few."""
        if len(self._new) < DISPATCH_AT:
            return self._take_new()
        # In the order of their names: that of the index on names, and of time where names begin with it.
        paths = sorted(self._new)[:MAX_IN_FLIGHT]
        for path in paths:
            del self._new[path]
        unknown = writer.unknown(path for path in paths if path not in came_back)
        if unknown:
            self._in_flight = dict.fromkeys(unknown)
            self._handed_out_at = time.time_ns()
            ids = writer.new_ids(len(unknown))
            # A chunk of each at most, as in a turn of the indexing thread: one of them may be large.
            tasks = [ReadTask(id_, path, 0, None, CHUNK_BYTES) for id_, path in zip(ids, unknown, strict=True)]
            # A share for each worker, all at once, so that they need nobody while this thread is busy merging.
            for number in range(min(pool.count, len(tasks))):
                pool.submit(ReadSources(tasks[number :: pool.count]))
            pool.close_segments()
        return [path for path in paths if path not in self._in_flight]

    def _take_new(self) -> list[str]:
        paths = list(self._new)
        self._new = {}
        return paths

    def close(self) -> None:
        """End the workers, and forget all sources: a scan finds them again."""
        pool, self._pool = self._pool, None
        self._new, self._in_flight, self._results = {}, {}, []
        if pool is not None:
            pool.close()
        if self._segments is not None:
            self._segments.close()
            self._segments = None
            self.clear()

    def clear(self) -> None:
        """Delete what workers have written; call it at a start, too, because a killed sidecar leaves it."""
        with suppress(OSError, SidecarError), GuardedFolder.open_own(self._settings.index_folder) as index:
            index.delete_all(BACKLOG_FOLDER)


def _to_continue(came_back: dict[str, None], saved: list[SavedSource]) -> list[str]:
    """Sources of a slice that could not be read, or not to their end, or that are empty and may not be settled."""
    read_to = {one.source[1]: (one.source[9], one.source[7]) for one in saved}  # position and size
    return [
        path for path in came_back if path not in read_to or read_to[path][0] < read_to[path][1] or not read_to[path][1]
    ]
