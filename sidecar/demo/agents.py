"""The demo's agents, in a process of their own. They write logs, and know nothing of an index.

    python -m sidecar.demo.agents '{"root": "/tmp/x", "agents": 8, "seed": 1, "name": "demo", "rate": 50, "seconds": 9}'

Prints the number of records written, once they are in the logs. On SIGTERM the current scenes are finished first.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

from sidecar.errors import SidecarError
from sidecar.writer import ResponseLogWriter, SessionWriter, complete_session, create_session, write_event

from .world import Act, Begin, Happen, Say, World

CLOSING_RATE = 500.0
"""Lowest rate, in records per second, at which the last scenes are finished, so that a slow demo ends soon too."""

MAX_ARREARS = 0.25
"""Seconds of delay that are made up for, after the machine was busy."""


class Agents:
    """Carries out acts. Some agents write their sessions themselves; for the others the daemon writes."""

    def __init__(self, root: str, responses: ResponseLogWriter) -> None:
        self._root = root
        self._responses = responses
        self._held: dict[str, SessionWriter] = {}
        self._failure: BaseException | None = None
        self.written = 0
        """Records that are in the logs."""

    async def do(self, act: Act) -> None:
        """Write the record of an act. Raises the error of an earlier one that failed meanwhile."""
        if self._failure:
            raise self._failure
        if isinstance(act, Happen):
            write_event(self._root, act.record)
        elif isinstance(act, Begin):
            session = create_session(self._root, act.agent, act.pattern, session_id=act.session)
            if act.is_held:
                self._held[act.session] = session
            else:
                session.close()
        elif isinstance(act, Say):
            if act.session not in self._held:
                record = {**act.record, "metadata": {"session_id": act.session}}
                written = await self._responses.queue_completion_event(record)
                written.add_done_callback(self._acknowledge)
                return
            self._held[act.session].append(act.record)
        elif act.session in self._held:
            with self._held.pop(act.session) as session:
                complete_session(session)
        else:
            await self._responses.complete_session(act.session, act.agent)
        self.written += 1

    def _acknowledge(self, written: asyncio.Future[Any]) -> None:
        self._failure = self._failure or written.exception()
        self.written += 1

    def close(self) -> None:
        """Release the sessions that are still held. Raises the error of a write that failed."""
        for session in self._held.values():
            session.close()
        if self._failure:
            raise self._failure


async def talk(root: str, world: World, rate: float, seconds: float) -> int:
    """Play a world for some seconds at a rate in records per second; returns the number of records in the logs."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.call_later(seconds, stop.set)
    async with ResponseLogWriter(root, "demo-daemon") as responses:
        agents = Agents(root, responses)
        due = loop.time()
        for act in world.acts():
            await agents.do(act)
            world.is_closing = stop.is_set()
            due = max(due, loop.time() - MAX_ARREARS) + 1 / (max(rate, CLOSING_RATE) if stop.is_set() else rate)
            await _until(due, stop)
    agents.close()
    return agents.written


async def _until(due: float, stop: asyncio.Event) -> None:
    """Sleep until `due`. After `stop` the sleep is at most that of CLOSING_RATE."""
    wait = due - asyncio.get_running_loop().time()
    if wait > 1 / CLOSING_RATE and not stop.is_set():
        try:
            async with asyncio.timeout(wait):
                await stop.wait()
        except TimeoutError:
            return
    else:
        await asyncio.sleep(max(0.0, min(wait, 1 / CLOSING_RATE)))


def main(given: dict[str, Any]) -> int:
    """Play what the command line says; returns the exit status."""
    # The parent process says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    world = World(given["agents"], given["seed"], given["name"])
    try:
        written = asyncio.run(talk(given["root"], world, given["rate"], given["seconds"]))
    except (SidecarError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(written, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
