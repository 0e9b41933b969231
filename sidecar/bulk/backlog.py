"""Sources never seen before, when they are very many: read by several processes, while the indexing thread goes on.

A hundred thousand files that are made, unpacked or moved in at once would keep one thread busy for many seconds, and
fresh lines of other files waiting behind them. So they are handed out, a slice at a time, and read as a rebuild reads
them (`load.py`), into parts of days; the indexing thread takes these into the daily files.

At each moment one process has a file: what was handed out is not looked at here until it has come back. What becomes
of a slice:

- It comes back, and its rows are committed, with the number of the checkpoint that will cover them. A crash before that
  checkpoint has them taken back, as all others (`index.py`).
- The sidecar is killed, stopped, or drops what is in memory before that: nothing of the slice is in the index, and a
  scan finds its files as new as before. What the readers have written lies in a folder that the next start deletes;
  they end when nobody asks them any more.
- A reader fails: it dies, a log is rewritten while it is read, the disk is full. Then the files of the slice are looked
  at in the ordinary way, which tells what is wrong with which.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import NamedTuple

from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.errors import SidecarError
from sidecar.indexer.index_writer import IndexWriter
from sidecar.indexer.saved_source import SavedSource
from sidecar.logs.tail import CHUNK_BYTES

from .workers import ReadChunk, ReadTask, WorkerPool

BACKLOG_FOLDER = "incoming"
"""In the index folder: what is not in the index yet."""
START_WORKERS_AT = 10_000
"""New sources from which on it pays to start processes; fewer take less than a second."""
DISPATCH_AT = 1_000
"""New sources from which on it pays to hand them out to processes that have started, and to wait for the end of a scan
that finds more and more."""
MAX_IN_FLIGHT = 20_000
"""New sources that are out at once, at most: so many come into the index in one turn, which delays fresh lines."""
MAX_WORKERS = 4
"""Processes that read, at most; there is one writer."""


class BacklogTurn(NamedTuple):
    """What came of a turn."""

    again: list[str]
    """Paths that are to be looked at in the ordinary way."""
    entries: int = 0
    bytes: int = 0


class Backlog:
    """The new sources that wait, and the processes that read them while they are many."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.index_folder / BACKLOG_FOLDER
        self._new: dict[str, None] = {}
        self._out: dict[str, None] = {}
        """In the order in which they were handed out."""
        self._readers: WorkerPool | None = None
        self._handed_out_at = 0

    def __len__(self) -> int:
        """Sources that are waiting or being read."""
        return len(self._new) + len(self._out)

    def add(self, path: str) -> None:
        """A source that the index does not know."""
        self._new[path] = None

    def is_out(self, path: str) -> bool:
        """Whether somebody is reading it now."""
        return path in self._out

    def turn(self, ledger: IndexWriter, patience: float, *, is_scanning: bool) -> BacklogTurn:
        """Go on, and wait for readers so many seconds at most. What comes back is in the index then."""
        if self._readers is None and len(self._new) < START_WORKERS_AT:
            return BacklogTurn([] if is_scanning and len(self._new) >= DISPATCH_AT else self._all_new())
        if self._readers is None:
            self.clear()
            self._readers = WorkerPool(self._settings, self._folder, min(MAX_WORKERS, os.cpu_count() or 1))
        try:
            are_done = self._readers.are_done(patience)
        except SidecarError as error:
            get_logger(__name__).warning("worker processes failed, reading without them: %s", error)
            given_back = [*self._out, *self._all_new()]
            self.close()
            return BacklogTurn(given_back)
        return self._go_on(ledger, self._readers) if are_done else BacklogTurn([])

    def _go_on(self, ledger: IndexWriter, readers: WorkerPool) -> BacklogTurn:
        """Take in what has come back, while the next slice is read."""
        parts, results = readers.fetch()
        saved = [one for one in results if isinstance(one, SavedSource)]
        # The files that could not be read, and those that were read in part: there is more, or it is not settled.
        read_to = {path: (offset, size) for path, offset, size in map(_read_to, saved)}
        again = [path for path in self._out if path not in read_to]
        again += [path for path, (offset, size) in read_to.items() if offset < size or not size]
        began = self._handed_out_at
        came_back = self._out
        self._out = {}
        again += self._hand_out(ledger, readers, came_back)
        ledger.merge_segments(parts, saved, began)
        if not self._out:
            self.close()
        read = [one for one in results if isinstance(one, ReadChunk)]
        return BacklogTurn(again, sum(one.entries for one in read), sum(one.bytes for one in read))

    def _hand_out(self, ledger: IndexWriter, readers: WorkerPool, came_back: dict[str, None]) -> list[str]:
        """Hand out the next slice, so that it is read while the last is taken in; gives what is not new any more, or
        all that wait where they are few."""
        if len(self._new) < DISPATCH_AT:
            return self._all_new()
        # In the order of their names, which is that of the index on them, and of time where names begin with it.
        paths = sorted(self._new)[:MAX_IN_FLIGHT]
        for path in paths:
            del self._new[path]
        fresh = ledger.unknown(path for path in paths if path not in came_back)
        self._out = dict.fromkeys(fresh)
        self._handed_out_at = time.time_ns()
        ids = ledger.new_ids(len(fresh))
        # No more than a chunk of each, as in a look: there may be a large one among them.
        readers.begin([ReadTask(id_, path, 0, None, CHUNK_BYTES) for id_, path in zip(ids, fresh, strict=True)])
        return [path for path in paths if path not in self._out]

    def _all_new(self) -> list[str]:
        paths = list(self._new)
        self._new = {}
        return paths

    def close(self) -> None:
        """End the readers, and forget what waits and what is out: a scan finds it again."""
        readers, self._readers = self._readers, None
        self._new, self._out = {}, {}
        if readers is not None:
            readers.close()
            self.clear()

    def clear(self) -> None:
        """Delete what readers have written, or a killed one may have left."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _read_to(saved: SavedSource) -> tuple[str, int, int]:
    """A source's path, how far it was read, and its size then."""
    return saved.source[1], saved.source[9], saved.source[7]
