"""Very many new sources at once: worker processes read them, while the indexing thread goes on with its work.

A hundred thousand files that are created, unpacked or moved in at once would keep one thread busy for many seconds, and
new lines of other files would have to wait. So workers read one slice of the new files at a time into segments, as in a
rebuild (`workers.py`), and the indexing thread merges the segments into the daily files.

At any moment at most one process reads a file: a source in flight is not read by the indexing thread until it has come
back. A slice can end in three ways:

- It comes back, and its rows are committed together with the number of the checkpoint that will cover them. A crash
  before that checkpoint rolls them back, like all others (`indexer/day_files.py`).
- The sidecar is killed, stopped, or drops what is in memory before that. Then nothing of the slice is in the index, and
  the next scan finds the files as new as before. The segments are in a folder that the next start deletes; the workers
  exit when the pipe to them is closed.
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
"""The folder in the index folder for segments that have not been merged yet."""
START_WORKERS_AT = 10_000
"""From this many new sources on, workers are started. The indexing thread reads fewer in less than a second."""
DISPATCH_AT = 1_000
"""From this many new sources on, they are handed to running workers; without workers, they wait for the end of a scan,
which may find more."""
MAX_IN_FLIGHT = 20_000
"""The largest number of sources in a slice. It is merged in one turn, and new lines of other files wait meanwhile."""
MAX_WORKERS = 4
"""The largest number of workers, because one thread merges what all of them read."""


class BacklogTurn(NamedTuple):
    """The result of one turn."""

    again: list[str]
    """The paths that the indexing thread should read."""
    entries: int = 0
    """How many entries workers have read that are in the index now."""
    bytes: int = 0
    """How many bytes of log workers have read."""


class Backlog:
    """New sources that wait, and the workers that read them if there are many. Only the indexing thread uses it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._segments: GuardedFolder | None = None
        """The folder that workers write to, open while there are any."""
        self._new: dict[str, None] = {}
        """The paths that are waiting, in the order in which they came."""
        self._in_flight: dict[str, None] = {}
        """The paths of the slice that workers are reading, in the order in which they were handed out."""
        self._pool: WorkerPool | None = None
        self._results: list[Result] = []
        """What workers have reported about the slice in flight."""
        self._handed_out_at = 0
        """When the slice in flight was handed out, in nanoseconds since 1970."""

    def __len__(self) -> int:
        """The number of sources that are waiting or in flight."""
        return len(self._new) + len(self._in_flight)

    def add(self, path: str) -> None:
        """Add a source that the index does not know."""
        self._new[path] = None

    def is_out(self, path: str) -> bool:
        """Whether a source is in flight, so that a worker may be reading it now."""
        return path in self._in_flight

    def turn(self, writer: IndexWriter, wait: float, *, is_scanning: bool) -> BacklogTurn:
        """Merge the slice that has come back, if any, and hand out the next one. Waits for the workers for at most
        `wait` seconds.

        During a scan, sources that are neither few nor many enough for workers wait, because the scan may find more.
        Raises the errors of `IndexWriter.merge_segments`.
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
        """Hand out the next slice, and merge the one that has come back while the workers read."""
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
        """Hand the next slice to the workers. Returns paths that the indexing thread should read: those of sources that
        are no longer new, or all that are waiting if they are few."""
        if len(self._new) < DISPATCH_AT:
            return self._take_new()
        # In the order of names, which is that of the index on names, and that of time if names begin with a time.
        paths = sorted(self._new)[:MAX_IN_FLIGHT]
        for path in paths:
            del self._new[path]
        unknown = writer.unknown(path for path in paths if path not in came_back)
        if unknown:
            self._in_flight = dict.fromkeys(unknown)
            self._handed_out_at = time.time_ns()
            ids = writer.new_ids(len(unknown))
            # At most a chunk of each, as in a turn of the indexing thread, because one of them may be large.
            tasks = [ReadTask(id_, path, 0, None, CHUNK_BYTES) for id_, path in zip(ids, unknown, strict=True)]
            # Each worker gets its share at once, so that none has to wait while this thread is busy merging.
            for number in range(min(pool.count, len(tasks))):
                pool.submit(ReadSources(tasks[number :: pool.count]))
            pool.close_segments()
        return [path for path in paths if path not in self._in_flight]

    def _take_new(self) -> list[str]:
        paths = list(self._new)
        self._new = {}
        return paths

    def close(self) -> None:
        """End the workers, and forget all sources. A scan finds them again."""
        pool, self._pool = self._pool, None
        self._new, self._in_flight, self._results = {}, {}, []
        if pool is not None:
            pool.close()
        if self._segments is not None:
            self._segments.close()
            self._segments = None
            self.clear()

    def clear(self) -> None:
        """Delete what workers have written. To be called at the start too, because a killed sidecar leaves it."""
        with suppress(OSError, SidecarError), GuardedFolder.open_own(self._settings.index_folder) as index:
            index.delete_all(BACKLOG_FOLDER)


def _to_continue(came_back: dict[str, None], saved: list[SavedSource]) -> list[str]:
    """The sources of a slice that could not be read to their end, or that are empty and may not have settled."""
    # By path, the position and the size.
    read_to = {one.source[1]: (one.source[9], one.source[7]) for one in saved}
    return [
        path for path in came_back if path not in read_to or read_to[path][0] < read_to[path][1] or not read_to[path][1]
    ]
