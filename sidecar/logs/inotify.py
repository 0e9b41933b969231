"""An inotify reader that batches and merges events, and reports the errors that watchdog swallows.

Watchdog passes every event through three threads. At 20,000 lines per second these would use a whole core to repeat the
same twenty names, and starve the indexing thread. Instead:

- After each read the reader pauses, longer the more events arrive (`_pause`). The first event after a silence is read
  at once. Events that arrive during a pause wait in the kernel.
- An event that repeats an earlier one of the same read is dropped unparsed (`merge_events`). The kernel does the same,
  but compares an event only with the last one in its queue.
- An event about a file is only a hint, so it goes straight to the hints, together with all others of the same read.
  Only events about folders go through watchdog, which sets the watches for new folders.

Nothing but the pause delays an event, so there is no special mode for busy times that could miss a file. If the
kernel's queue overflows all the same, a scan follows.

The errors that watchdog swallows are the failure to watch a folder below the requested one, and the death of its
reader. After an overflow it sets every watch again and reports nothing of what happens meanwhile, so the loss is
reported here once that is done.

All this depends on the internals of watchdog 7. `check_watchdog` finds out if a name is missing, and the tests of this
module say what else has to hold.
"""

from __future__ import annotations

import errno
import inspect
import os
import time
from collections.abc import Callable, Iterable, Iterator
from struct import Struct

from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter, InotifyWatchGroup
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

BUFFER_BYTES = 1 << 18
"""Bytes to read at once: about 5,000 events with names of ordinary length."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.002, 0.02
"""Seconds to pause after few events, and after very many."""

BUSY_RATE = 20_000
"""Events per second at which the pause is longest."""

MAX_EVENT_BYTES = 16 + 256
"""The size of an event with the longest possible name."""

_HEAD = Struct("iIII")
"""Watch, mask, cookie, and the length of the name that follows."""

_GONE = {errno.ENOENT, errno.ENOTDIR}
"""The errors for a folder that no longer exists, and so need not be watched."""


def check_watchdog() -> None:
    """Raise AttributeError if the installed watchdog lacks a private name that this module uses."""
    for name in ("read_events", "handle_event", "add_callback", "_read_event_buffer"):
        getattr(InotifyFD, name)
    getattr(InotifyWatchGroup, "_build_event_source_path")  # noqa: B009
    missing = {"_lock", "_watch_for_wd"} - set(InotifyFD.__init__.__code__.co_names)
    missing |= {"inotify_fd"} - set(inspect.signature(InotifyEmitter).parameters)
    if missing:
        raise AttributeError(f"watchdog has no {', '.join(sorted(missing))}")


class BatchingObserver(BaseObserver):
    """An inotify observer. It calls `mark(paths)` when files may have changed, `lost()` when events were lost, and
    `failed(why)` when it can no longer work, always from threads of its own.

    The constructor raises OSError if the limit on inotify instances has been reached.
    """

    def __init__(
        self, mark: Callable[[Iterable[str]], None], lost: Callable[[], None], failed: Callable[[str], None]
    ) -> None:
        self._reader = BatchingReader(mark, lost, failed)
        self._reader.start()
        super().__init__(InotifyEmitter, inotify_fd=self._reader)

    def on_thread_stop(self) -> None:
        super().on_thread_stop()
        self._reader.stop()
        self._reader.join()


class BatchingReader(InotifyFD):
    """Watchdog's reader thread, with batching, merging and error reports."""

    def __init__(
        self, mark: Callable[[Iterable[str]], None], lost: Callable[[], None], failed: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.name = "inotify"
        self._mark = mark
        self._lost = lost
        self._failed = failed
        self._events = 0
        """The number of events in the last read, before merging."""
        self._is_full = False
        """Whether the last read filled the buffer, so that there is more to read."""

    def run(self) -> None:
        try:
            began = time.monotonic()
            while self.should_keep_running():
                events = self.read_events(event_buffer_size=BUFFER_BYTES)
                ended = time.monotonic()
                self.dispatch(events)
                if not self._is_full:
                    time.sleep(_pause(self._events, ended - began))
                began = ended
        except Exception as error:
            self._failed(f"its reader has died: {error!r}")

    def dispatch(self, events: Iterable[InotifyEvent]) -> None:
        """Pass events about files to the hints and the rest to watchdog, in the order in which they happened."""
        paths: set[str] = set()
        for event in events:
            if event.is_directory or event.is_ignored or event.is_queue_overflow or not event.name:
                self.handle_event(event)
            else:
                paths.update(self._paths(event))
        if paths:
            self._mark(paths)

    def _paths(self, event: InotifyEvent) -> Iterator[str]:
        """The paths of the file that an event is about. Watchdog knows them: it keeps track of renamed folders."""
        with self._lock:
            watch = self._watch_for_wd.get(event.wd)
            callbacks = list(watch.callbacks.values()) if watch is not None else []
        for callback in callbacks:
            assert isinstance(callback, InotifyWatchGroup)
            path = callback._build_event_source_path(event)
            if path is not None:
                yield os.fsdecode(path)

    def _read_event_buffer(self, event_buffer_size: int) -> bytes:
        buffer = super()._read_event_buffer(event_buffer_size)
        self._is_full = len(buffer) > event_buffer_size - MAX_EVENT_BYTES
        self._events, buffer = merge_events(buffer)
        return buffer

    def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        try:
            number = super().add_callback(path, mask, callback, id_)
            # Watchdog treats an unreadable folder as watched.
            if number == -1:
                raise OSError(errno.EACCES, f"{os.fsdecode(path)} may not be watched")
        except OSError as error:
            if error.errno not in _GONE:
                self._failed(error.strerror or str(error))
            raise
        return number

    def handle_event(self, event: InotifyEvent) -> None:
        super().handle_event(event)
        if event.is_queue_overflow:
            self._lost()


def merge_events(buffer: bytes) -> tuple[int, bytes]:
    """The number of events in a buffer, and the buffer without repeated modifications of the same file.

    An event of another kind ends the comparison: after a rename or a deletion the same name may stand for another file.
    """
    count = at = 0
    kept: list[bytes] = []
    seen: set[bytes] = set()
    while at < len(buffer):
        _, mask, _, length = _HEAD.unpack_from(buffer, at)
        event = buffer[at : at + _HEAD.size + length]
        at += len(event)
        count += 1
        if mask != InotifyConstants.IN_MODIFY:
            seen.clear()
        elif event in seen:
            continue
        else:
            seen.add(event)
        kept.append(event)
    return count, b"".join(kept)


def _pause(events: int, seconds: float) -> float:
    """The seconds to pause after a read that returned this many events, collected in this many seconds."""
    rate = events / max(seconds, SHORTEST_PAUSE)
    return SHORTEST_PAUSE + (LONGEST_PAUSE - SHORTEST_PAUSE) * min(1.0, rate / BUSY_RATE)
