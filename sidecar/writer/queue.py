"""The queue of records to write, and the open sessions behind it, least recently used closed first.

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
    """At most `limit` sessions (two descriptors each), opened when something is written to them.

    None stays open for more than `idle` seconds without a record, provided that somebody looks.
    """

    def __init__(self, root: str | os.PathLike[str], owner: str, fsync: Fsync, limit: int, idle: float) -> None:
        self._root = root
        self._owner = owner
        self._fsync = fsync
        self._limit = limit
        self._idle = idle
        self._open: OrderedDict[str, tuple[SessionWriter, float]] = OrderedDict()
        """With the time of their last use, the oldest first."""
        self._failure: WriterError | None = None

    def __len__(self) -> int:
        return len(self._open)

    def write(self, batch: Mapping[str, Sequence[bytes]], now: float) -> dict[str, list[Place | WriterError]]:
        """Append each session's lines with one call; for each line its place, or why it has none.

        A session that fails does not stop the others. `now` is the time of this use, in seconds of any clock.
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
        """Give up one session; nothing happens where it is not open. Raises WriterError where fsync fails."""
        if session_id in self._open:
            writer, _ = self._open.pop(session_id)
            writer.close()

    def close_idle(self, now: float) -> None:
        """Close the sessions that are idle. What fails is told by `close_all`."""
        while self._open and next(iter(self._open.values()))[1] <= now - self._idle:
            self._close_oldest()

    def close_all(self) -> None:
        """Close every session, then raise the first WriterError that any closing, now or before, has met."""
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
    """What is to be done for one session: records to write, in order; then perhaps the session to give up."""

    lines: list[bytes] = field(default_factory=list)
    futures: list[asyncio.Future[Place]] = field(default_factory=list)
    """One a line."""
    released: asyncio.Future[None] | None = None


class ResponseLogWriter:
    """Serializes all writes of a daemon to its session logs.

    Records of a session stand in the log in the order of the calls. While one batch is written, the next one
    gathers: all its records of one session go out in a single `write` call. To be used in one event loop.

        async with ResponseLogWriter("var/logs") as responses:
            written = await responses.queue_completion_event(event)     # waits for room in the queue
            place = await written                                       # waits until it is in the log

    Crash windows: what was queued and not yet acknowledged dies with the process; see SessionWriter for the rest.
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
        """`owner` is whom the locks name. At most `queue_size` records wait, and as many are being written.

        At most `open_sessions` stay open (two descriptors each), none longer than `idle_seconds` without a record.
        """
        # Only the event loop touches what stands here; `_sessions` belongs to the thread that the worker waits for.
        self._sessions = OpenSessions(root, owner, fsync, open_sessions, idle_seconds)
        self.owner = owner
        self._idle_seconds = idle_seconds
        self._room = queue_size
        """How many records more can wait."""
        self._callers = 0
        """How many calls wait for room; one at a time has its turn, in the order of their coming."""
        self._turn = asyncio.Lock()
        self._has_room = asyncio.Event()
        self._queued: dict[str, _Group] = {}
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def queue_completion_event(self, event: dict[str, Any]) -> asyncio.Future[Place]:
        """Queue a record for the session of `data.session_id`, else `metadata.session_id`; wait while there is no room.

        The future tells the record's place once it is written, or raises WriterError: SessionLocked where another
        writer has the session. The record is taken as it is now, and stamped with the time of the call. Cancelling
        the future does not take the record back; a call that is cancelled while it waits for room has queued nothing.

        Raises MissingSessionId (a ValueError), InvalidRecord, InvalidName and WriterClosed, with nothing queued.
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
        """Begin a session with a new id, which is given once its first record is written. Errors as above."""
        record = session_created(f"sess_{uuid4()}", initiating_agent, pattern_type)
        await (await self.queue_completion_event(record))
        return str(record["data"]["session_id"])

    async def complete_session(self, session_id: str, agent_id: str) -> Place:
        """Write the record that ends a session, said by `agent_id`, and give the session up. Errors as above."""
        written = await self.queue_completion_event(session_completed(session_id, agent_id))
        place = await written
        await self.release(session_id)
        return place

    async def transfer_session(self, session_id: str, new_owner: str) -> Place:
        """Write the record that hands a session over, and give it up: the new owner can take it. Errors as above."""
        written = await self.queue_completion_event(session_transferred(session_id, self.owner, new_owner))
        place = await written
        await self.release(session_id)
        return place

    async def release(self, session_id: str) -> None:
        """Write what is queued for a session, then give it up, so that another owner can take it.

        It is taken again by its next record. Raises WriterError where fsync="close" fails, WriterClosed.
        """
        if self._closed:
            raise WriterClosed("the response log has been closed")
        group = self._queued.get(session_id) or self._new_group(session_id)
        group.released = group.released or asyncio.get_running_loop().create_future()
        await asyncio.shield(group.released)

    async def aclose(self) -> None:
        """Write all that is queued, and close every session. Who still waits for room gets WriterClosed.

        Cancelled, it goes on behind the scenes; call it again to wait for the end. Raises the first WriterError that
        the closing of a session has met, with fsync="close".
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
        """Wait until it is this call's turn and there is room, or the writer is closed: first come, first served."""
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
        """The only one who writes: batch after batch, until closed and empty."""
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
        """Wait for it, and close what falls idle meanwhile; false once closed and empty."""
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
        except Exception as error:  # not foreseen: these records fail, the next ones are tried
            failed = WriterError(f"the records were not written: {error}")
            failed.__cause__ = error
            outcomes = {session_id: [failed] * len(lines[session_id]) for session_id in lines}
        for session_id in lines:
            for future, outcome in zip(batch[session_id].futures, outcomes[session_id], strict=True):
                if future.done():  # cancelled by its caller: the record is in the log all the same
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
        """The worker has ended. Where it was cancelled, together with the loop, nobody must wait for it for ever."""
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
