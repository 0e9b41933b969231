"""The reader of inotify, which tells what watchdog keeps to itself: that events were lost, that a folder could not be
watched, and that the reader has died.

watchdog swallows the failure to watch a folder below the one that was asked for, and nobody there looks whether the
reader lives. After an overflow it sets every watch anew, and what happens meanwhile is told to nobody; so the loss is
told when that is done.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import CallbackId, InotifyEvent, InotifyFD, Mask, WatchCallback, WatchDescriptor

_GONE = {errno.ENOENT, errno.ENOTDIR}
"""A folder that is gone need not be watched."""


class Observer(BaseObserver):
    """An observer by inotify. `lost()` is called when events were lost, `failed(why)` when it cannot serve any more;
    both from threads of its own. Raises OSError where there are too many instances of inotify."""

    def __init__(self, lost: Callable[[], None], failed: Callable[[str], None]) -> None:
        self._reader = _Reader(lost, failed)
        self._reader.start()
        super().__init__(InotifyEmitter, inotify_fd=self._reader)

    def on_thread_stop(self) -> None:
        super().on_thread_stop()
        self._reader.stop()
        self._reader.join()


class _Reader(InotifyFD):
    def __init__(self, lost: Callable[[], None], failed: Callable[[str], None]) -> None:
        super().__init__()
        self.name = "inotify"
        self._lost = lost
        self._failed = failed

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            self._failed(f"its reader has died: {error!r}")

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
