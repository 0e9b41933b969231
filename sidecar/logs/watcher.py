"""Report which paths may have changed, by watchdog. Only this module and `inotify.py` import it.

Watchdog's threads do one thing: mark a path as dirty. Events are hints. An overflow, a folder that came or went, or a
watch that could not be set requests a scan, and only the scan is believed. Where inotify cannot serve, the caller scans
at a short interval instead.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)

from sidecar.diagnostics import get_logger
from sidecar.fs import POLLING_CONFIGURED, FileStat, why_polling

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

# Without a filter every read of a log, including our own, would cause an event.
_EVENTS: list[type[FileSystemEvent]] = [
    *(FileCreatedEvent, FileModifiedEvent, FileMovedEvent, FileDeletedEvent),
    *(DirCreatedEvent, DirMovedEvent, DirDeletedEvent),
]

REFRESH_INTERVAL = 1.0
"""Seconds between checks that a watched folder still has its name: its renaming causes no event."""

RETRY_INOTIFY_AFTER = 60.0
"""Seconds of polling after inotify has failed, until it is tried again."""


def why_public_observer() -> str:
    """Why watchdog's public observer has to serve; empty where the batching reader fits the installed watchdog.

    The reader is built on private names of watchdog, which a new version may rename. The public observer loses events
    where the kernel's queue overflows, where a new folder cannot be watched and where its reader dies, and reports at
    most the first. So its events only make things faster: beside it, the caller scans as often as without events.
    """
    if sys.platform != "linux":
        return ""
    try:
        from . import inotify

        inotify.check_watchdog()
    except (ImportError, AttributeError) as error:
        return f"watchdog's private inotify reader is not the one expected; using its public observer ({error})"
    return ""


class Hints(FileSystemEventHandler, logging.Handler):
    """Collects the hints of watchdog's threads until the indexing thread fetches them.

    It is a log handler as well: an overflow of the kernel's queue is reported only in watchdog's log.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self, logging.WARNING)
        self._guard = threading.Lock()
        self._paths: set[str] = set()
        self._scan = False
        self._wake = threading.Event()
        self.failure = ""
        """Why inotify can no longer serve; empty while it does."""

    def dispatch(self, event: FileSystemEvent) -> None:
        with self._guard:
            if event.is_directory:
                self._scan = True
            else:
                self._paths.add(os.fsdecode(event.src_path))
                if event.dest_path:
                    self._paths.add(os.fsdecode(event.dest_path))
        self._wake.set()

    def mark(self, paths: Iterable[str]) -> None:
        """Note that these files may have changed."""
        with self._guard:
            self._paths.update(paths)
        self._wake.set()

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        self.ask_for_scan()

    def ask_for_scan(self) -> None:
        """Request a scan: something changed, and only a scan can find out what."""
        with self._guard:
            self._scan = True
        self._wake.set()

    def fail(self, why: str) -> None:
        """Note that changes from now on may go unreported, and why."""
        self.failure = self.failure or why
        self._wake.set()

    def fetch(self) -> tuple[set[str], bool]:
        """The paths since the last call, and whether a scan is needed."""
        with self._guard:
            self._wake.clear()
            paths, self._paths = self._paths, set()
            scan, self._scan = self._scan, False
        return paths, scan

    def wait(self, seconds: float) -> None:
        """Return when there is a hint or `wake` is called, after `seconds` at the latest."""
        self._wake.wait(seconds)

    def wake(self) -> None:
        """Make `wait` return."""
        self._wake.set()


class Watcher:
    """Watches the folders of all sources, as far as they exist; `refresh` follows them as they come and go."""

    def __init__(self, root: Path, folders: Iterable[str], *, polling: bool = False) -> None:
        self._root = root
        self._folders = tuple(folders)
        self._observer: BaseObserver | None = None
        self._watched: dict[Path, tuple[bool, tuple[int, int], ObservedWatch]] = {}
        self.hints = Hints()
        self.why_polling = POLLING_CONFIGURED if polling else why_polling(root)
        """Empty while inotify serves by itself."""
        self._refresh_at = 0.0
        self._retry_at = 0.0
        """When to try inotify again, on the monotonic clock; 0 for never."""
        if not self.why_polling:
            self._start()

    @property
    def mode(self) -> str:
        """`inotify` or `polling`; the latter too where the events of watchdog's public observer come beside it."""
        return "polling" if self.why_polling else "inotify"

    def _start(self) -> None:
        logging.getLogger("watchdog.observers.inotify_c").addHandler(self.hints)
        logging.getLogger("watchdog.observers.inotify").addHandler(self.hints)
        self.hints.failure = ""
        try:
            self._observer = self._new_observer()
            self._observer.start()
        except OSError as error:
            self._fall_back(error.strerror or str(error))
        except ImportError as error:
            self._fall_back(str(error))
        else:
            self.refresh()

    def _new_observer(self) -> BaseObserver:
        self.why_polling = why_public_observer()
        if sys.platform == "linux" and not self.why_polling:
            from . import inotify

            return inotify.BatchingObserver(self.hints.mark, self.hints.ask_for_scan, self.hints.fail)
        from watchdog.observers import Observer

        return Observer()

    def check(self) -> None:
        """Fall back to polling where events have failed, and try inotify again after a while."""
        if self._observer is not None:
            if self.hints.failure or not self._observer.is_alive():
                self._fall_back(self.hints.failure or "its dispatcher has died")
            elif self._dead() or time.monotonic() >= self._refresh_at:
                self.refresh()
        elif self._retry_at and time.monotonic() >= self._retry_at:
            self.why_polling, self._retry_at = "", 0.0
            self._start()

    def _dead(self) -> set[ObservedWatch]:
        """Watches whose thread has ended, as it does when the folder is deleted; the folder may be back by now."""
        assert self._observer is not None
        return {emitter.watch for emitter in self._observer.emitters if not emitter.is_alive()}

    def refresh(self) -> None:
        """Set missing watches, and renew those whose folder was replaced."""
        if self._observer is None:
            return
        self._refresh_at = time.monotonic() + REFRESH_INTERVAL
        folders = dict(self._folders_to_watch())
        dead = self._dead()
        try:
            for path, (recursive, identity, watch) in list(self._watched.items()):
                if folders.get(path) != (recursive, identity) or watch in dead:
                    del self._watched[path]
                    self._observer.unschedule(watch)
            for path, (recursive, identity) in folders.items():
                if path not in self._watched:
                    watch = self._observer.schedule(self.hints, str(path), recursive=recursive, event_filter=_EVENTS)
                    self._watched[path] = (recursive, identity, watch)
                    # Changes between the last scan and this watch caused no event.
                    self.hints.ask_for_scan()
        except FileNotFoundError:
            self.hints.ask_for_scan()
        except OSError as error:
            self._fall_back(error.strerror or str(error))

    def _folders_to_watch(self) -> Iterable[tuple[Path, tuple[bool, tuple[int, int]]]]:
        """Each source folder, recursively; where it does not exist yet, the nearest existing folder above it."""
        for folder in self._folders:
            path = self._root / folder
            recursive = True
            while not path.is_dir() and path != self._root:
                path, recursive = path.parent, False
            try:
                status = path.stat()
            except OSError:
                continue
            yield path, (recursive, FileStat.of(status).identity)

    def _fall_back(self, why: str) -> None:
        self.close()
        self.why_polling = f"inotify: {why}"
        self._retry_at = time.monotonic() + RETRY_INOTIFY_AFTER
        get_logger(__name__).warning("polling instead of inotify: %s", why)
        self.hints.ask_for_scan()

    def close(self) -> None:
        """Stop watchdog's threads."""
        logging.getLogger("watchdog.observers.inotify_c").removeHandler(self.hints)
        logging.getLogger("watchdog.observers.inotify").removeHandler(self.hints)
        observer, self._observer = self._observer, None
        self._watched = {}
        if observer is not None:
            observer.stop()
            observer.join()
