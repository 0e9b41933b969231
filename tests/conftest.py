"""Whatever a test leaves behind fails it: threads of ours and descriptors, as warnings do by configuration."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

# Python starts a process of its own for those that are spawned, once, and keeps a pipe to it.
resource_tracker.ensure_running()

# watchdog keeps one reader thread for the whole process, whoever watches.
_SHARED = {"InotifyFD"}


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if type(thread).__name__ not in _SHARED}


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture(autouse=True)
def nothing_is_leaked() -> Iterator[None]:
    threads, descriptors = _threads(), _descriptors()
    yield
    for thread in _threads() - threads:
        thread.join(2)
    assert not _threads() - threads, "threads were left running"
    gc.collect()
    # Its three descriptors, and what it had no time to close of the test before.
    allowed = 5 if any(type(thread).__name__ in _SHARED for thread in threading.enumerate()) else 0
    assert _descriptors() <= descriptors + allowed, "descriptors were left open"
