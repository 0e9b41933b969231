"""What `sidecar run` does when it cannot go on: it says why, on stderr and to `sidecar status`, and tries again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from sidecar.config.settings import Settings
from sidecar.store.connection import first

from .heartbeat import Voice

LONGEST = 30.0
"""Seconds between two tries at most; the first wait is one second. A rebuild that finds no room on the disk takes what
room there is while it tries, and the logs may lie on the same disk."""

TICK = 0.1


class Patience:
    """Waits for what is wrong to end, or for `stop()`. One for a run; only the main thread touches it."""

    def __init__(self, settings: Settings, stop: Callable[[], bool], tell: Callable[[str], None], voice: Voice) -> None:
        self._settings = settings
        self._stop = stop
        self._tell = tell
        self._told = ""
        self._seconds = 1.0
        self._voice = voice

    def after(self, error: Exception) -> None:
        """Return when it is time to try again what ended with this error; each time in a row it takes longer."""
        why = f"index: {first(error)}"
        self._say(why)
        self._voice.tell("", "", [why])
        self._wait(self._seconds)
        self._seconds = min(LONGEST, 2 * self._seconds)

    def for_root(self) -> None:
        """Return when there is a root with something in it. An empty one is a mount point, or not yet of use."""
        root = self._settings.root
        if not is_empty(root):
            return
        self._say(f"the root {root} is gone or empty; waiting for it")
        while is_empty(root) and not self._stop():
            time.sleep(TICK)

    def is_over(self) -> None:
        """It goes on again."""
        self._told, self._seconds = "", 1.0

    def _say(self, why: str) -> None:
        if why != self._told:
            self._told = why
            self._tell(why)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._stop():
            time.sleep(TICK)


def is_empty(root: os.PathLike[str]) -> bool:
    """Whether there is nothing in a folder, or no folder."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except OSError:
        return True
