"""The kernel's events, read seldom and merged, so that a log that is written often costs little.

Watchdog takes every event through three threads: at 20,000 lines a second they would spend a core on saying the same
twenty names again and again, and keep the indexing thread from running. Here its reader is told to do less:

- after a read it pauses, the longer the more comes (`_pause`); the first event after a silence is read at once. What
  comes meanwhile waits in the kernel;
- of what it then reads, an event that says again what one before it said is dropped unread (`merged`). The kernel does
  the same, but only with the last event in its queue;
- what concerns a file is a hint and nothing more, so it goes straight to the hints, all of one read at once. Only what
  concerns a folder goes watchdog's way, which sets the watches that follow it.

No event is held back that the kernel has not, and none of a kind: there is no busy mode to switch to and fro, in which
a file could be missed. Where the kernel's queue runs over all the same, watchdog says so, and a scan follows.

This rests on how watchdog 7 is made inside; `tests/test_hot.py` says what of that has to hold.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from struct import Struct

from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter, InotifyWatchGroup
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, InotifyFD

BUFFER = 1 << 18
"""Bytes read at once: 5,000 events of files with common names."""

SHORTEST, LONGEST = 0.002, 0.02
"""Seconds of a pause after few events, and after very many."""

BUSY = 20_000
"""Events a second at which the pause is longest."""

_HEAD = Struct("iIII")
"""Watch, mask, cookie, and the length of the name that follows."""


class Reader(InotifyFD):
    """Watchdog's reading thread, which gives what it knows of files to `mark`."""

    def __init__(self, mark: Callable[[Iterable[str]], None]) -> None:
        super().__init__()
        self._mark = mark
        self._events = 0
        """What the last read brought, before it was merged."""

    def run(self) -> None:
        """Read and deal out, until stopped."""
        began = time.monotonic()
        while self.should_keep_running():
            events = self.read_events(event_buffer_size=BUFFER)
            ended = time.monotonic()
            self._deal_out(events)
            time.sleep(_pause(self._events, ended - began))
            began = ended

    def _deal_out(self, events: Iterable[InotifyEvent]) -> None:
        paths: set[str] = set()
        for event in events:
            if event.is_directory or event.is_ignored or event.is_queue_overflow or not event.name:
                self.handle_event(event)
            else:
                paths.update(self._paths(event))
        if paths:
            self._mark(paths)

    def _paths(self, event: InotifyEvent) -> Iterator[str]:
        """Where a file lies; watchdog knows this of each watch that its folder is in."""
        with self._lock:
            watch = self._watch_for_wd.get(event.wd)
            callbacks = list(watch.callbacks.values()) if watch is not None else []
        for callback in callbacks:
            assert isinstance(callback, InotifyWatchGroup)
            path = callback._build_event_source_path(event)
            if path is not None:
                yield os.fsdecode(path)

    def _read_event_buffer(self, event_buffer_size: int) -> bytes:
        self._events, buffer = merged(super()._read_event_buffer(event_buffer_size))
        return buffer


class Observer(BaseObserver):
    """Watchdog's observer, with such a reader."""

    def __init__(self, mark: Callable[[Iterable[str]], None]) -> None:
        self._reader = Reader(mark)
        self._reader.start()
        super().__init__(InotifyEmitter, inotify_fd=self._reader)

    def is_alive(self) -> bool:
        """Whether it runs, and its reader too."""
        return super().is_alive() and self._reader.is_alive()

    def on_thread_stop(self) -> None:
        """Stop the reader as well."""
        super().on_thread_stop()
        self._reader.stop()
        self._reader.join()


def merged(buffer: bytes) -> tuple[int, bytes]:
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
    rate = events / max(seconds, SHORTEST)
    return SHORTEST + (LONGEST - SHORTEST) * min(1.0, rate / BUSY)
