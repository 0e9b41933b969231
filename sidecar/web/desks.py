"""Threads that answer, each with its own `Index`, and answers that are kept while the index is the same."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from sidecar.fs import try_file_stat
from sidecar.query.index import Index
from sidecar.store import layout
from sidecar.store.database_files import WAL

T = TypeVar("T")
OpenIndex = Callable[[], Index]
Stamp = tuple[Any, ...]


class Desk:
    """One thread with one index, which is opened when it is first asked."""

    def __init__(self, name: str, open_index: OpenIndex) -> None:
        self._open = open_index
        self._index: Index | None = None  # only the thread touches this
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sidecar-web-{name}")

    async def ask(self, question: Callable[[Index], T]) -> T:
        """The answer to a question. Raises whatever the question raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    def _answer(self, question: Callable[[Index], T]) -> T:
        if self._index is None:
            self._index = self._open()
        return question(self._index)

    def close(self) -> None:
        """Wait for the thread, and close its index."""

        def end() -> None:
            if self._index is not None:
                self._index.close()

        self._thread.submit(end).result()
        self._thread.shutdown()


def stamp(folder: Path, since: float | None = None, until: float | None = None) -> Stamp:
    """What changes whenever the daily files of a span do: their names, and the identity, size and time of each and of
    its write-ahead log. The files are not opened for this."""
    from sidecar.times import day_name

    first = "" if since is None else day_name(int(since // 86400))
    last = "~" if until is None else day_name(int(until // 86400))
    return tuple(
        (path.name, try_file_stat(path), try_file_stat(f"{path}{WAL}"))
        for path in layout.daily_paths(folder)
        if first <= path.stem <= last
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
