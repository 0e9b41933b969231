"""Report which paths may have changed, with the help of watchdog, which only this module and `inotify.py` import.

Watchdog's threads do one thing: they mark a path as dirty. Events are hints. An overflow, a folder that was created or
deleted, or a watch that could not be set requests a scan, and only the scan is trusted. Where inotify is of no use, the
caller scans at short intervals instead.
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

# Without this filter every read of a log, including the sidecar's own, would cause an event.
_EVENTS: list[type[FileSystemEvent]] = [
    *(FileCreatedEvent, FileModifiedEvent, FileMovedEvent, FileDeletedEvent),
    *(DirCreatedEvent, DirMovedEvent, DirDeletedEvent),
]

REFRESH_INTERVAL = 1.0
"""Seconds between checks that a watched folder still has its name, because renaming it causes no event."""

RETRY_INOTIFY_AFTER = 60.0
"""Seconds of polling after inotify has failed, before it is tried again."""


def why_public_observer() -> str:
    """Why watchdog's public observer has to be used; empty if the batching reader works with the installed watchdog.

    The batching reader uses private names of watchdog, which a new version may rename. The public observer loses events
    when the kernel's queue overflows, when a new folder cannot be watched, and when its reader dies, and reports at
    most the first of these. So its events only make things faster: the caller scans as often as without any events.
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

    It is a logging handler as well, because watchdog reports an overflow of the kernel's queue only by logging it.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self, logging.WARNING)
        self._guard = threading.Lock()
        self._paths: set[str] = set()
        self._scan = False
        self._wake = threading.Event()
        self.failure = ""
        """Why inotify can no longer be relied on; empty while it can."""

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
        """The paths that were marked since the last call, and whether a scan was requested."""
        with self._guard:
            self._wake.clear()
            paths, self._paths = self._paths, set()
            scan, self._scan = self._scan, False
        return paths, scan

    def wait(self, seconds: float) -> None:
        """Wait until there is a hint or `wake` is called, but no longer than `seconds`."""
        self._wake.wait(seconds)

    def wake(self) -> None:
        """Make `wait` return."""
        self._wake.set()


class Watcher:
    """Watches the folders of all sources that exist; `refresh` notices which have been created or deleted since."""

    def __init__(self, root: Path, folders: Iterable[str], *, polling: bool = False) -> None:
        self._root = root
        self._folders = tuple(folders)
        self._observer: BaseObserver | None = None
        self._watched: dict[Path, tuple[bool, tuple[int, int], ObservedWatch]] = {}
        self.hints = Hints()
        self.why_polling = POLLING_CONFIGURED if polling else why_polling(root)
        """Why the caller has to scan at short intervals; empty while inotify alone is relied on."""
        self._refresh_at = 0.0
        self._retry_at = 0.0
        """When to try inotify again, on the monotonic clock; 0 for never."""
        if not self.why_polling:
            self._start()

    @property
    def mode(self) -> str:
        """`inotify`, or `polling`, which may mean polling beside the events of watchdog's public observer."""
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
        """Fall back to polling if events have failed, and try inotify again after a while."""
        if self._observer is not None:
            if self.hints.failure or not self._observer.is_alive():
                self._fall_back(self.hints.failure or "its dispatcher has died")
            elif self._dead() or time.monotonic() >= self._refresh_at:
                self.refresh()
        elif self._retry_at and time.monotonic() >= self._retry_at:
            self.why_polling, self._retry_at = "", 0.0
            self._start()

    def _dead(self) -> set[ObservedWatch]:
        """The watches whose thread has ended, which happens when the folder is deleted; it may exist again by now."""
        assert self._observer is not None
        return {emitter.watch for emitter in self._observer.emitters if not emitter.is_alive()}

    def refresh(self) -> None:
        """Set the watches that are missing, and renew those whose folder has been replaced."""
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
                    # What changed between the last scan and this moment caused no event.
                    self.hints.ask_for_scan()
        except FileNotFoundError:
            self.hints.ask_for_scan()
        except OSError as error:
            self._fall_back(error.strerror or str(error))

    def _folders_to_watch(self) -> Iterable[tuple[Path, tuple[bool, tuple[int, int]]]]:
        """Each source folder, to be watched recursively, or the nearest folder above it that exists, by itself. Yields
        the path, whether to watch recursively, and the folder's identity."""
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
