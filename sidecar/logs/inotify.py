"""The reader of inotify: it reads seldom and merges what it read, so that a log that is written often costs little, and
it tells what watchdog keeps to itself.

Watchdog takes every event through three threads. At 20,000 lines a second they would spend a core on saying the same
twenty names again and again, and keep the indexing thread from running. So here:

- after a read the reader pauses, the longer the more comes (`_pause`); the first event after a silence is read at once.
  What comes meanwhile waits in the kernel;
- of what it then reads, an event that says again what one before it said is dropped unread (`merge_events`). The kernel
  does the same, but only with the last event in its queue;
- what concerns a file is a hint and nothing more, so it goes straight to the hints, all of one read at once. Only what
  concerns a folder goes watchdog's way, which sets the watches that follow it.

Nothing is held back but by the pause, so there is no busy mode to switch to and fro in which a file could be missed.
Where the kernel's queue runs over all the same, a scan follows.

What watchdog keeps to itself: it swallows the failure to watch a folder below the one that was asked for, and nobody
there looks whether the reader lives. After an overflow it sets every watch anew, and what happens meanwhile is told to
nobody; so the loss is told when that is done.

All this rests on how watchdog 7 is made inside; `tests/test_hot.py` says what of that has to hold.
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
"""Bytes read at once: 5,000 events of files with common names."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.002, 0.02
"""Seconds of a pause after few events, and after very many."""

BUSY_RATE = 20_000
"""Events a second at which the pause is longest."""

MAX_EVENT_BYTES = 16 + 256
"""Bytes of an event with the longest name."""

_HEAD = Struct("iIII")
"""Watch, mask, cookie, and the length of the name that follows."""

_GONE = {errno.ENOENT, errno.ENOTDIR}
"""A folder that is gone need not be watched."""


def check_watchdog() -> None:
    """Raise AttributeError where the installed watchdog lacks a private name that this module builds on."""
    for name in ("read_events", "handle_event", "add_callback", "_read_event_buffer"):
        getattr(InotifyFD, name)
    getattr(InotifyWatchGroup, "_build_event_source_path")  # noqa: B009
    missing = {"_lock", "_watch_for_wd"} - set(InotifyFD.__init__.__code__.co_names)
    missing |= {"inotify_fd"} - set(inspect.signature(InotifyEmitter).parameters)
    if missing:
        raise AttributeError(f"watchdog has no {', '.join(sorted(missing))}")


class BatchingObserver(BaseObserver):
    """An observer by inotify. `mark(paths)` is called when something happened to files, `lost()` when events were lost,
    `failed(why)` when it cannot serve any more; all from threads of its own.

    Raises OSError where there are too many instances of inotify.
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
    """Watchdog's reading thread, told to do less and say more."""

    def __init__(
        self, mark: Callable[[Iterable[str]], None], lost: Callable[[], None], failed: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.name = "inotify"
        self._mark = mark
        self._lost = lost
        self._failed = failed
        self._events = 0
        """What the last read brought, before it was merged."""
        self._is_full = False
        """It brought as much as it could take: there is more."""

    def run(self) -> None:
        try:
            began = time.monotonic()
            while self.should_keep_running():
                events = self.read_events(event_buffer_size=BUFFER_BYTES)
                ended = time.monotonic()
                self.deal_out(events)
                if not self._is_full:
                    time.sleep(_pause(self._events, ended - began))
                began = ended
        except Exception as error:
            self._failed(f"its reader has died: {error!r}")

    def deal_out(self, events: Iterable[InotifyEvent]) -> None:
        """Files to the hints, the rest to watchdog, in the order in which it happened."""
        paths: set[str] = set()
        for event in events:
            if event.is_directory or event.is_ignored or event.is_queue_overflow or not event.name:
                self.handle_event(event)
            else:
                paths.update(self._paths(event))
        if paths:
            self._mark(paths)

    def _paths(self, event: InotifyEvent) -> Iterator[str]:
        """Where a file lies, as watchdog knows it, which follows its folders through renames."""
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
            if number == -1:  # watchdog takes a folder that may not be read for one that is watched
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
    """The number of events in a buffer, and the buffer without those that say again that a file was modified.

    Only between two others: what is renamed or deleted in between may be another file of the same name.
    """
    count = at = 0
    kept: list[bytes] = []
    said: set[bytes] = set()
    while at < len(buffer):
        _, mask, _, length = _HEAD.unpack_from(buffer, at)
        event = buffer[at : at + _HEAD.size + length]
        at += len(event)
        count += 1
        if mask != InotifyConstants.IN_MODIFY:
            said.clear()
        elif event in said:
            continue
        else:
            said.add(event)
        kept.append(event)
    return count, b"".join(kept)


def _pause(events: int, seconds: float) -> float:
    """Seconds until the next read, after one that brought so many events of that long."""
    rate = events / max(seconds, SHORTEST_PAUSE)
    return SHORTEST_PAUSE + (LONGEST_PAUSE - SHORTEST_PAUSE) * min(1.0, rate / BUSY_RATE)
