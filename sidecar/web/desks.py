"""Threads that answer, each with its own `Index`, and answers that are kept while the index is the same."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from sidecar.query.index import Index
from sidecar.store import layout
from sidecar.times import day_of

T = TypeVar("T")
OpenIndex = Callable[[], Index]
Stamp = tuple[Any, ...]
THREAD = "sidecar-web-"
"""What the names of the threads begin with."""
GRACE_SECONDS = 2.0
"""How long a thread may take to end."""


class Desk:
    """One thread with one index, which is opened when it is first asked."""

    def __init__(self, name: str, open_index: OpenIndex) -> None:
        self._open = open_index
        self._index: Index | None = None  # only the thread touches this
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{THREAD}{name}")

    async def ask(self, question: Callable[[Index], T]) -> T:
        """The answer to a question. Raises whatever the question raises."""
        return await asyncio.wrap_future(self.begin(question))

    def begin(self, question: Callable[[Index], T]) -> Future[T]:
        """Ask, and do not wait for the answer."""
        return self._thread.submit(self._answer, question)

    def _answer(self, question: Callable[[Index], T]) -> T:
        if self._index is None:
            self._index = self._open()
        return question(self._index)

    def close(self) -> None:
        """Close the index. A question that takes longer than `GRACE_SECONDS` goes on: see `leave`."""

        def end() -> None:
            if self._index is not None:
                self._index.close()

        if self._is_stuck(end):
            self._thread.shutdown(wait=False, cancel_futures=True)
        else:
            self._thread.shutdown()

    def _is_stuck(self, end: Callable[[], None]) -> bool:
        try:
            self._thread.submit(end).result(GRACE_SECONDS)
        except TimeoutError:
            return True
        return False


def leave() -> None:
    """End the process if a question is still being answered: nobody waits for it, and it only reads."""
    if any(thread.name.startswith(THREAD) and thread.is_alive() for thread in threading.enumerate()):
        sys.stderr.flush()
        os._exit(0)


def stamp(folder: Path, since: float | None = None, until: float | None = None) -> Stamp:
    """What changes whenever the daily files of a span do: their names, and the identity, size and time of each and of
    its write-ahead log."""
    first = "" if since is None else day_of(since)
    last = "~" if until is None else day_of(until)
    return tuple(
        (path.name, *layout.file_stamp(path)) for path in layout.daily_paths(folder) if first <= path.stem <= last
    )


class Kept:
    """Values by key, the most recently used ones, up to a total size. For all threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._values: OrderedDict[Hashable, tuple[Stamp, Any, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, now: Stamp) -> Any:
        """The value that was kept with the same stamp, or None."""
        with self._lock:
            found = self._values.get(key)
            if found is None or found[0] != now:
                return None
            self._values.move_to_end(key)
            return found[1]

    def put(self, key: Hashable, now: Stamp, value: Any, size: int) -> None:
        """Keep a value; those that were not used for the longest time go."""
        with self._lock:
            old = self._values.pop(key, None)
            self._size += size - (old[2] if old else 0)
            self._values[key] = (now, value, size)
            while self._size > self._limit and len(self._values) > 1:
                self._size -= self._values.popitem(last=False)[1][2]
