"""A queue of records for many sessions, and the sessions that are open for it.

Only the thread that is writing a batch touches the open sessions, so they need no lock.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from sidecar.errors import WriterClosed, WriterError

from .record import Place, encode, session_file, session_of
from .session import Fsync, SessionWriter, session_completed, session_created, session_transferred


class OpenSessions:
    """Sessions that are opened when something is written to them, at most `limit` of them (two descriptors each). The
    one used least recently is closed to make room.

    `write` and `close_idle` close those to which nothing was written for `idle` seconds.
    """

    def __init__(self, root: str | os.PathLike[str], owner: str, fsync: Fsync, limit: int, idle: float) -> None:
        self._root = root
        self._owner = owner
        self._fsync = fsync
        self._limit = limit
        self._idle = idle
        self._open: OrderedDict[str, tuple[SessionWriter, float]] = OrderedDict()
        """Each with the time of its last use, the least recently used one first."""
        self._failure: WriterError | None = None

    def __len__(self) -> int:
        return len(self._open)

    def write(self, batch: Mapping[str, Sequence[bytes]], now: float) -> dict[str, list[Place | WriterError]]:
        """Append the lines of each session, with one call per session. Returns for each line its place, or the error
        that kept it from being written.

        A session that fails does not stop the others. `now` is in seconds of any clock.
        """
        outcomes: dict[str, list[Place | WriterError]] = {}
        for session_id, lines in batch.items():
            try:
                outcomes[session_id] = self._writer(session_id, now).append_lines(lines)
            except WriterError as error:
                outcomes[session_id] = [error] * len(lines)
        self.close_idle(now)
        return outcomes

    def close(self, session_id: str) -> None:
        """Close one session and release its lock, if it is open. Raises WriterError if fsync fails."""
        if session_id in self._open:
            writer, _ = self._open.pop(session_id)
            writer.close()

    def close_idle(self, now: float) -> None:
        """Close the sessions that are idle. `close_all` raises the error of a closing that fails."""
        while self._open and next(iter(self._open.values()))[1] <= now - self._idle:
            self._close_oldest()

    def close_all(self) -> None:
        """Close every session, then raise the first WriterError of any closing since the start."""
        while self._open:
            self._close_oldest()
        if self._failure:
            raise self._failure

    def _writer(self, session_id: str, now: float) -> SessionWriter:
        known = self._open.pop(session_id, None)
        if known is None:
            while len(self._open) >= self._limit:
                self._close_oldest()
        writer = known[0] if known else SessionWriter(self._root, session_id, self._owner, self._fsync)
        self._open[session_id] = (writer, now)
        return writer

    def _close_oldest(self) -> None:
        _, (writer, _) = self._open.popitem(last=False)
        try:
            writer.close()
        except WriterError as error:
            self._failure = self._failure or error


@dataclass(slots=True)
class _Group:
    """What is to be done for one session: write records, in order, and then perhaps release it."""

    lines: list[bytes] = field(default_factory=list)
    futures: list[asyncio.Future[Place]] = field(default_factory=list)
    """One per line."""
    released: asyncio.Future[None] | None = None
    """If set, the session is to be released afterwards, and this is done then."""


class ResponseLogWriter:
    """Serializes all writes of a daemon to its session logs.

    The records of a session are in its log in the order of the calls. While one batch is written, the next one is
    collected, and all its records of one session are written with a single `write` call. To be used in one event loop.

        async with ResponseLogWriter("var/logs") as responses:
            written = await responses.queue_completion_event(event)     # waits for room in the queue
            place = await written                                       # waits until it is in the log

    Crash windows: records that were queued and not yet acknowledged are lost with the process. SessionWriter tells the
    rest.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        owner: str = "daemon",
        *,
        fsync: Fsync = "never",
        queue_size: int = 2_000,
        open_sessions: int = 256,
        idle_seconds: float = 30.0,
    ) -> None:
        """`owner` is the name in the locks. At most `queue_size` records wait, while as many are being written.

        At most `open_sessions` sessions are open at once (two descriptors each), and none for longer than
        `idle_seconds` without a record. `fsync` says when records survive a power failure (`session.Fsync`).
        """
        # Only the event loop touches these; `_sessions` belongs to the thread that the worker waits for.
        self._sessions = OpenSessions(root, owner, fsync, open_sessions, idle_seconds)
        self.owner = owner
        self._idle_seconds = idle_seconds
        self._room = queue_size
        """The number of records that can still be queued."""
        self._callers = 0
        """The number of calls that wait for room; they get it in the order in which they came."""
        self._turn = asyncio.Lock()
        self._has_room = asyncio.Event()
        self._queued: dict[str, _Group] = {}
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def queue_completion_event(self, event: dict[str, Any]) -> asyncio.Future[Place]:
        """Queue a record for the session of `data.session_id`, else `metadata.session_id`. Waits while the queue is
        full.

        The result of the future is the record's place, once it is written; or a WriterError, such as SessionLocked if
        another writer has the session. The record is encoded as it is at the call; if it has no `timestamp`, it gets
        the time of the call. Cancelling the future does not take the record back. A call that is cancelled while it
        waits has queued nothing.

        Raises MissingSessionId (a ValueError), InvalidRecord, InvalidName or WriterClosed; nothing is queued then.
        """
        session_id = session_of(event)
        if session_id not in self._queued:
            session_file(session_id)
        line = encode(event)
        if not self._room or self._callers:
            await self._wait_for_room()
        if self._closed:
            raise WriterClosed("the response log has been closed")
        self._room -= 1
        group = self._queued.get(session_id) or self._new_group(session_id)
        written: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        group.lines.append(line)
        group.futures.append(written)
        return written

    async def create_session(self, initiating_agent: str, pattern_type: str = "general") -> str:
        """Begin a session, and return its new id once its first record is written.

        Raises what `queue_completion_event` and its future raise.
        """
        record = session_created(f"sess_{uuid4()}", initiating_agent, pattern_type)
        await (await self.queue_completion_event(record))
        return str(record["data"]["session_id"])

    async def complete_session(self, session_id: str, agent_id: str) -> Place:
        """Write the record that completes a session, with `agent_id` as its author, and release the session. Returns
        the record's place. Raises what `queue_completion_event` and its future raise."""
        written = await self.queue_completion_event(session_completed(session_id, agent_id))
        place = await written
        await self.release(session_id)
        return place

    async def transfer_session(self, session_id: str, new_owner: str, node: str | None = None) -> Place:
        """Write the record that hands a session over, and release the session, so that the new owner can take it, on
        this machine or on the `node` that is named.
        Returns the record's place. Raises what `queue_completion_event` and its future raise."""
        written = await self.queue_completion_event(session_transferred(session_id, self.owner, new_owner, node))
        place = await written
        await self.release(session_id)
        return place

    async def release(self, session_id: str) -> None:
        """Write what is queued for a session, then close it and release its lock, so that another owner can take it.

        The next record for it opens it again. Raises WriterClosed, and WriterError if `fsync="close"` fails.
        """
        if self._closed:
            raise WriterClosed("the response log has been closed")
        group = self._queued.get(session_id) or self._new_group(session_id)
        group.released = group.released or asyncio.get_running_loop().create_future()
        await asyncio.shield(group.released)

    async def aclose(self) -> None:
        """Write everything that is queued, and close every session. Calls that still wait for room raise WriterClosed.

        If this is cancelled, the writing goes on in the background; call it again to wait for its end. Raises the first
        WriterError of the closing of a session, which `fsync="close"` can cause.
        """
        self._close_queue()
        if self._worker is not None:
            await asyncio.shield(self._worker)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _wait_for_room(self) -> None:
        """Wait until there is room for this call, in the order in which calls came, or until the writer is closed."""
        self._callers += 1
        try:
            async with self._turn:
                while not self._room and not self._closed:
                    self._has_room.clear()
                    await self._has_room.wait()
        finally:
            self._callers -= 1

    def _new_group(self, session_id: str) -> _Group:
        group = self._queued[session_id] = _Group()
        self._wake.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="ResponseLogWriter")
        return group

    async def _work(self) -> None:
        """The task that does all writing: batch after batch, until the queue is closed and empty."""
        batch: dict[str, _Group] = {}
        try:
            while await self._something_to_do():
                batch, self._queued = self._queued, {}
                self._room += sum(len(group.lines) for group in batch.values())
                self._has_room.set()
                await self._write(batch)
                await self._release(batch)
            await asyncio.to_thread(self._sessions.close_all)
        finally:
            self._abandon(batch)

    async def _something_to_do(self) -> bool:
        """Wait until something is queued, and close idle sessions meanwhile. False if the queue is closed and empty."""
        while not self._queued:
            if self._closed:
                return False
            self._wake.clear()
            try:
                async with asyncio.timeout(self._idle_seconds if len(self._sessions) else None):
                    await self._wake.wait()
            except TimeoutError:
                await asyncio.to_thread(self._sessions.close_idle, time.monotonic())
        return True

    async def _write(self, batch: dict[str, _Group]) -> None:
        lines = {session_id: group.lines for session_id, group in batch.items() if group.lines}
        try:
            outcomes = await asyncio.to_thread(self._sessions.write, lines, time.monotonic())
        except Exception as error:
            # This is unexpected. These records fail, and the next batch is tried.
            failed = WriterError(f"the records were not written: {error}")
            failed.__cause__ = error
            outcomes = {session_id: [failed] * len(lines[session_id]) for session_id in lines}
        for session_id in lines:
            for future, outcome in zip(batch[session_id].futures, outcomes[session_id], strict=True):
                # Cancelled by its caller: the record is in the log all the same.
                if future.done():
                    continue
                if isinstance(outcome, WriterError):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    async def _release(self, batch: dict[str, _Group]) -> None:
        for session_id, group in batch.items():
            if group.released is not None:
                try:
                    await asyncio.to_thread(self._sessions.close, session_id)
                    group.released.set_result(None)
                except WriterError as error:
                    group.released.set_exception(error)

    def _abandon(self, batch: dict[str, _Group]) -> None:
        """Called when the worker ends: fail everything that is not done. The worker may have been cancelled together
        with the loop, and then nobody may wait for it forever."""
        self._close_queue()
        for group in (*batch.values(), *self._queued.values()):
            for future in (*group.futures, group.released):
                if future is not None and not future.done():
                    future.set_exception(WriterClosed("the writer was cancelled before it could acknowledge this"))
        self._queued = {}

    def _close_queue(self) -> None:
        self._closed = True
        self._wake.set()
        self._has_room.set()
