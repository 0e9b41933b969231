"""Which paths may have changed: watchdog, and nothing but this and `inotify.py` knows of it.

Its threads do one thing, mark a path as dirty. Events are hints: an overflow, a folder that came or went, or a watch
that could not be set asks for a scan, and only the scan is believed. Where inotify cannot serve there are no events at
all, and the caller scans at a short interval instead.
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
from sidecar.fs import POLLING_CONFIGURED, why_polling

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

# Without a filter every read of a log, ours too, would come back as an event.
_EVENTS: list[type[FileSystemEvent]] = [
    *(FileCreatedEvent, FileModifiedEvent, FileMovedEvent, FileDeletedEvent),
    *(DirCreatedEvent, DirMovedEvent, DirDeletedEvent),
]

REFRESH_INTERVAL = 1.0
"""Seconds between two looks whether a watched folder is still the one of its name: no event tells of its renaming."""

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
    """Collects what watchdog's threads say, until the indexing thread fetches it.

    It also listens to watchdog's log: that is the only place where an overflow of the kernel's queue is told.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self, logging.WARNING)
        self._guard = threading.Lock()
        self._paths: set[str] = set()
        self._scan = False
        self._wake = threading.Event()
        self.failure = ""
        """Why inotify cannot serve any more; empty while it does."""

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
        """Something happened to these files."""
        with self._guard:
            self._paths.update(paths)
        self._wake.set()

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        self.ask_for_scan()

    def ask_for_scan(self) -> None:
        """Something happened of which only a scan can tell what."""
        with self._guard:
            self._scan = True
        self._wake.set()

    def fail(self, why: str) -> None:
        """What happens from now on may be told to nobody."""
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
        """Return when something was hinted or somebody called `wake`, at the latest after these seconds."""
        self._wake.wait(seconds)

    def wake(self) -> None:
        """Let `wait` return."""
        self._wake.set()


class Watcher:
    """Watches the folders that sources lie in, as far as they exist; `refresh` follows them as they come and go."""

    def __init__(self, root: Path, folders: Iterable[str], *, polling: bool = False) -> None:
        self._root = root
        self._folders = tuple(folders)
        self._observer: BaseObserver | None = None
        self._watched: dict[Path, tuple[bool, tuple[int, int], ObservedWatch]] = {}
        self.hints = Hints()
        self.why_polling = POLLING_CONFIGURED if polling else why_polling(root)
        """Empty while inotify serves by itself."""
        self._refresh_at = 0.0
        self._again_at = 0.0
        """When, on the monotonic clock, to try inotify again; 0 for never."""
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
            self._observer = self._made()
            self._observer.start()
        except OSError as error:
            self._fall_back(error.strerror or str(error))
        except ImportError as error:
            self._fall_back(str(error))
        else:
            self.refresh()

    def _made(self) -> BaseObserver:
        self.why_polling = why_public_observer()
        if sys.platform == "linux" and not self.why_polling:
            from . import inotify

            return inotify.BatchingObserver(self.hints.mark, self.hints.ask_for_scan, self.hints.fail)
        from watchdog.observers import Observer

        return Observer()

    def check(self) -> None:
        """Poll from now on where events have failed, and try them again after a while."""
        if self._observer is not None:
            if self.hints.failure or not self._observer.is_alive():
                self._fall_back(self.hints.failure or "its dispatcher has died")
            elif self._dead() or time.monotonic() >= self._refresh_at:
                self.refresh()
        elif self._again_at and time.monotonic() >= self._again_at:
            self.why_polling, self._again_at = "", 0.0
            self._start()

    def _dead(self) -> set[ObservedWatch]:
        """Watches whose thread has ended: it does when its folder is deleted, though the folder may be back."""
        assert self._observer is not None
        return {emitter.watch for emitter in self._observer.emitters if not emitter.is_alive()}

    def refresh(self) -> None:
        """Set the watches that are missing, and renew those whose folder is another one now."""
        if self._observer is None:
            return
        self._refresh_at = time.monotonic() + REFRESH_INTERVAL
        wanted = dict(self._wanted())
        dead = self._dead()
        try:
            for path, (recursive, identity, watch) in list(self._watched.items()):
                if wanted.get(path) != (recursive, identity) or watch in dead:
                    del self._watched[path]
                    self._observer.unschedule(watch)
            for path, (recursive, identity) in wanted.items():
                if path not in self._watched:
                    watch = self._observer.schedule(self.hints, str(path), recursive=recursive, event_filter=_EVENTS)
                    self._watched[path] = (recursive, identity, watch)
                    # Whatever came between the last scan and this watch was told to nobody.
                    self.hints.ask_for_scan()
        except FileNotFoundError:
            self.hints.ask_for_scan()
        except OSError as error:
            self._fall_back(error.strerror or str(error))

    def _wanted(self) -> Iterable[tuple[Path, tuple[bool, tuple[int, int]]]]:
        """Each source folder with all below it; where it does not exist yet, the nearest folder above that does."""
        for folder in self._folders:
            path = self._root / folder
            recursive = True
            while not path.is_dir() and path != self._root:
                path, recursive = path.parent, False
            try:
                status = path.stat()
            except OSError:
                continue
            yield path, (recursive, (status.st_dev, status.st_ino))

    def _fall_back(self, why: str) -> None:
        self.close()
        self.why_polling = f"inotify: {why}"
        self._again_at = time.monotonic() + RETRY_INOTIFY_AFTER
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
