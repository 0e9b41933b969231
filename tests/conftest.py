"""Whatever a test leaves behind fails it: threads of ours and descriptors, as warnings do by configuration."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest

# watchdog keeps one reader thread for the whole process, whoever watches.
_SHARED = {"InotifyFD"}


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if type(thread).__name__ not in _SHARED}


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def nothing_is_leaked(request: pytest.FixtureRequest) -> Iterator[None]:
    threads, descriptors = _threads(), _descriptors()
    yield
    for thread in _threads() - threads:
        thread.join(2)
    assert not _threads() - threads, "threads were left running"
    gc.collect()
    allowed = 5 if "watch" in request.keywords or any("InotifyFD" in type(t).__name__ for t in threading.enumerate()) else 0
    assert _descriptors() <= descriptors + allowed, "descriptors were left open"
