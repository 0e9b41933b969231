"""New entries, as they come: one `Index.follow` for all who watch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from threading import Event, Lock, Thread
from typing import Any

import orjson

from sidecar.errors import SidecarError

from .answers import SCHEMA_VERSION
from .desks import OpenIndex
from .entries import said

TICK = 0.5
"""Seconds between two messages."""
SHOWN = 12
"""Entries of a message: the last ones."""
POLL = 0.1
"""Seconds between two looks at the index."""


class Live:
    """Follows the index while anybody watches. Each watcher gets every tick from its first on."""

    def __init__(self, open_index: OpenIndex) -> None:
        self._open = open_index
        self._watchers: set[asyncio.Queue[bytes]] = set()  # only the event loop touches these three
        self._ticker: asyncio.Task[None] | None = None
        self._is_closed = False
        self._lock = Lock()
        self._count = 0
        self._last: deque[dict[str, Any]] = deque(maxlen=SHOWN)

    async def watch(self, is_over: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Server-sent events: `{n, last}` twice a second, the number of new entries and the last of them."""
        mailbox: asyncio.Queue[bytes] = asyncio.Queue(60)
        self._watchers.add(mailbox)
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick())
        try:
            yield b"retry: 2000\n\n"
            while not (self._is_closed or is_over()):
                try:
                    yield await asyncio.wait_for(mailbox.get(), TICK)
                except TimeoutError:
                    continue
        finally:
            self._watchers.discard(mailbox)

    async def close(self) -> None:
        """End all streams, and the thread."""
        self._is_closed = True
        if self._ticker is not None:
            await self._ticker

    async def _tick(self) -> None:
        stop = Event()
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        thread = Thread(
            target=self._follow, args=(stop, lambda: loop.call_soon_threadsafe(ready.set)), name="sidecar-web-live"
        )
        thread.start()
        try:
            await ready.wait()
            while self._watchers and not self._is_closed:
                message = self._message()
                for mailbox in self._watchers:
                    if mailbox.full():  # it does not read: the oldest goes
                        mailbox.get_nowait()
                    mailbox.put_nowait(message)
                await asyncio.sleep(TICK)
        finally:
            stop.set()
            self._ticker = None
            await asyncio.to_thread(thread.join)

    def _message(self) -> bytes:
        with self._lock:
            count, last = self._count, list(self._last)
            self._count = 0
            self._last.clear()
        now = round(time.time(), 3)
        value = {"schema_version": SCHEMA_VERSION, "from": now - TICK, "to": now, "n": count, "last": last}
        return b"data: " + orjson.dumps(value) + b"\n\n"

    def _follow(self, stop: Event, ready: Callable[[], object]) -> None:
        """Count what comes. An index that cannot be followed now is opened again a little later."""
        while not stop.is_set():
            try:
                with self._open() as index:
                    entries = index.follow(stop=stop.is_set, poll=POLL)
                    ready()
                    for entry in entries:
                        shown = {**said(entry), "conversation": entry.conversation_id}
                        with self._lock:
                            self._count += 1
                            self._last.append(shown)
            except SidecarError:
                ready()
                stop.wait(1.0)
