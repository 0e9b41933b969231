"""The queue in front of the session logs, and the reference's integration points."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.support import HANG
from sidecar.errors import InvalidName, InvalidRecord, SessionLocked, WriterClosed, WriterError
from sidecar.writer import (
    Place,
    ResponseLogWriter,
    SessionWriter,
    handle_completion_event,
    route_message,
    write_event,
)
from sidecar.writer.queue import OpenSessions
from sidecar.writer.record import encode


def event(session_id: str, number: int = 0) -> dict[str, Any]:
    data = {"session_id": session_id, "number": number}
    return {"event": "completion:request", "data": data, "timestamp": 1735500000.5}


def log_of(root: Path, session_id: str) -> Path:
    return root / "responses" / "sessions" / f"{session_id}.jsonl"


def numbers(root: Path, session_id: str) -> list[int]:
    return [json.loads(line)["data"]["number"] for line in log_of(root, session_id).read_bytes().splitlines()]


def at(root: Path, place: Place) -> Any:
    return json.loads((root / place.path).read_bytes()[place.byte_offset :].split(b"\n")[0])


@asynccontextmanager
async def writes_held_back() -> AsyncIterator[None]:
    """Inside, no batch can be written: the loop's only thread is busy. What is queued stays queued."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    gate = threading.Event()
    busy = loop.run_in_executor(None, gate.wait)
    try:
        yield
    finally:
        gate.set()
        await busy


async def turns() -> None:
    """Let everything run that can run without the thread."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_the_future_tells_where_the_record_stands(tmp_path: Path) -> None:
    async def run() -> None:
        async with ResponseLogWriter(tmp_path) as writer:
            for number in range(5):
                written = await writer.queue_completion_event(event("s", number))
                place = await written
                assert at(tmp_path, place) == event("s", number)
                assert place.line_number == number + 1

    asyncio.run(run())


def test_many_producers_keep_their_order_within_each_session(tmp_path: Path) -> None:
    async def produce(writer: ResponseLogWriter, session: int) -> list[Place]:
        written = [await writer.queue_completion_event(event(f"s{session}", number)) for number in range(100)]
        return [await each for each in written]

    async def run() -> list[list[Place]]:
        async with ResponseLogWriter(tmp_path, queue_size=7) as writer:
            return await asyncio.gather(*(produce(writer, session) for session in range(20)))

    for session, places in enumerate(asyncio.run(run())):
        assert numbers(tmp_path, f"s{session}") == list(range(100))
        assert [at(tmp_path, place)["data"]["number"] for place in places] == list(range(100))
        assert [place.line_number for place in places] == list(range(1, 101))


def test_callers_that_wait_for_room_get_it_in_the_order_of_their_coming(tmp_path: Path) -> None:
    async def run() -> None:
        async with ResponseLogWriter(tmp_path, queue_size=3) as writer:
            calls = [asyncio.create_task(writer.queue_completion_event(event("s", number))) for number in range(200)]
            for call in calls:
                await (await call)

    asyncio.run(run())
    assert numbers(tmp_path, "s") == list(range(200))


def test_who_comes_when_room_has_just_been_made_does_not_overtake_those_who_wait(tmp_path: Path) -> None:
    async def run() -> None:
        async with ResponseLogWriter(tmp_path, queue_size=1) as writer:

            async def comes_after(written: asyncio.Future[Place]) -> None:
                await written
                await writer.queue_completion_event(event("s", 3))

            async with writes_held_back():
                being_written = await writer.queue_completion_event(event("s", 0))
                newcomer = asyncio.create_task(comes_after(being_written))
                await turns()
                await writer.queue_completion_event(event("s", 1))
                waiting = asyncio.create_task(writer.queue_completion_event(event("s", 2)))
                await turns()
            await asyncio.gather(newcomer, waiting)

    asyncio.run(run())
    assert numbers(tmp_path, "s") == [0, 1, 2, 3]


def test_records_of_one_session_go_out_in_one_write(tmp_path: Path) -> None:
    def write_calls() -> int:
        return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["syscw"])

    async def run() -> int:
        async with ResponseLogWriter(tmp_path) as writer:
            await (await writer.queue_completion_event(event("s")))
            before = write_calls()
            async with writes_held_back():
                written = [await writer.queue_completion_event(event("s", number)) for number in range(1000)]
            await asyncio.gather(*written)
            return write_calls() - before

    assert asyncio.run(run()) < 50  # the loop wakes itself up by writes, too
    assert len(numbers(tmp_path, "s")) == 1001


@pytest.mark.parametrize("where", [{"data": {}}, {"data": {"session_id": ""}}, {"data": None, "metadata": []}, {}])
def test_an_event_without_a_session_is_refused_as_by_the_reference(tmp_path: Path, where: dict[str, Any]) -> None:
    async def run() -> None:
        async with ResponseLogWriter(tmp_path) as writer:
            with pytest.raises(ValueError, match="must have a session_id") as refused:
                await writer.queue_completion_event({"event": "completion:request", **where})
            assert isinstance(refused.value, WriterError)

    asyncio.run(run())


def test_the_session_may_stand_in_the_metadata_and_be_a_number(tmp_path: Path) -> None:
    async def run() -> None:
        async with ResponseLogWriter(tmp_path) as writer:
            for place in ({"metadata": {"session_id": "m"}}, {"data": {"session_id": 5}}):
                await (await writer.queue_completion_event({"event": "a:b", **place}))

    asyncio.run(run())
    assert log_of(tmp_path, "m").exists() and log_of(tmp_path, "5").exists()


def test_what_cannot_be_written_is_refused_before_it_is_queued(tmp_path: Path) -> None:
    async def run() -> None:
        async with ResponseLogWriter(tmp_path) as writer:
            with pytest.raises(InvalidName):
                await writer.queue_completion_event(event("../s"))
            with pytest.raises(InvalidRecord):
                await writer.queue_completion_event({"event": "", "data": {"session_id": "s"}})
            with pytest.raises(InvalidRecord):
                await writer.queue_completion_event([])  # type: ignore[arg-type]

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_taken_as_it_was_when_queued(tmp_path: Path) -> None:
    async def run() -> None:
        async with ResponseLogWriter(tmp_path) as writer:
            mine = event("s", 1)
            await writer.queue_completion_event(mine)
            mine["data"]["number"] = 2

    asyncio.run(run())
    assert numbers(tmp_path, "s") == [1]


def test_a_session_that_fails_does_not_stop_the_others_and_may_recover(tmp_path: Path) -> None:
    async def run() -> None:
        async with ResponseLogWriter(tmp_path) as writer:
            with SessionWriter(tmp_path, "held", "agent_first"):
                held = await writer.queue_completion_event(event("held", 1))
                free = await writer.queue_completion_event(event("free", 1))
                with pytest.raises(SessionLocked, match="agent_first"):
                    await held
                assert (await free).line_number == 1
            assert (await (await writer.queue_completion_event(event("held", 2)))).line_number == 1

    asyncio.run(run())


def test_a_full_queue_makes_its_callers_wait_while_the_loop_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with ResponseLogWriter(tmp_path, queue_size=2) as writer:
            async with writes_held_back():
                calls = [asyncio.create_task(writer.queue_completion_event(event("s", n))) for n in range(6)]
                await turns()
                assert sum(call.done() for call in calls) == 4  # two that wait, and two that are being written
            await asyncio.gather(*[await call for call in calls])

    asyncio.run(run())
    assert numbers(tmp_path, "s") == list(range(6))


def test_cancelling_loses_nothing_that_was_queued_and_queues_nothing_that_was_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with ResponseLogWriter(tmp_path, queue_size=1) as writer:
            async with writes_held_back():
                being_written = await writer.queue_completion_event(event("s", 0))
                await turns()
                queued = await writer.queue_completion_event(event("s", 1))
                calls = [asyncio.create_task(writer.queue_completion_event(event("s", n))) for n in (2, 3)]
                await turns()
                calls[0].cancel()  # waits for room
                queued.cancel()
                being_written.cancel()
                await turns()
            assert (await (await calls[1])).line_number == 3

    asyncio.run(run())
    assert numbers(tmp_path, "s") == [0, 1, 3]


def test_closing_writes_all_that_is_queued_and_refuses_the_rest(tmp_path: Path) -> None:
    async def run() -> None:
        writer = ResponseLogWriter(tmp_path, queue_size=50)
        async with writes_held_back():
            written = [await writer.queue_completion_event(event(f"s{number % 3}", number)) for number in range(50)]
            await turns()
            written += [await writer.queue_completion_event(event(f"s{n % 3}", n)) for n in range(50, 100)]
            late = asyncio.create_task(writer.queue_completion_event(event("s", 100)))
            await turns()
            closing = asyncio.create_task(writer.aclose())
            await turns()
            assert not closing.done()
            with pytest.raises(WriterClosed):
                await late
        await closing
        assert all(each.done() for each in written)
        with pytest.raises(WriterClosed):
            await writer.queue_completion_event(event("s"))
        with pytest.raises(WriterClosed):
            await writer.release("s0")
        await writer.aclose()

    asyncio.run(run())
    assert sorted(number for session in range(3) for number in numbers(tmp_path, f"s{session}")) == list(range(100))
    SessionWriter(tmp_path, "s0", "next").close()


def test_a_close_that_is_cancelled_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        writer = ResponseLogWriter(tmp_path)
        async with writes_held_back():
            await writer.queue_completion_event(event("s", 1))
            closing = asyncio.create_task(writer.aclose())
            await turns()
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
        await writer.aclose()
        SessionWriter(tmp_path, "s", "next").close()

    asyncio.run(run())
    assert numbers(tmp_path, "s") == [1]


def test_a_writer_that_was_never_used_closes(tmp_path: Path) -> None:
    writer = ResponseLogWriter(tmp_path)  # made outside of a loop, too
    asyncio.run(writer.aclose())
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_is_cancelled_leaves_nobody_waiting(tmp_path: Path) -> None:
    async def run() -> None:
        writer = ResponseLogWriter(tmp_path, queue_size=1)
        async with writes_held_back():
            waiting = [asyncio.ensure_future(await writer.queue_completion_event(event("s", 1)))]
            await turns()
            waiting += [asyncio.ensure_future(await writer.queue_completion_event(event("s", 2)))]
            waiting += [asyncio.create_task(writer.queue_completion_event(event("s", 3)))]  # type: ignore[arg-type]
            waiting += [asyncio.create_task(writer.release("s"))]  # type: ignore[arg-type]
            await turns()
            (worker,) = (task for task in asyncio.all_tasks() if task.get_name() == "ResponseLogWriter")
            worker.cancel()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [WriterClosed] * 4

    asyncio.run(run())


def test_few_sessions_stay_open_however_many_are_written(tmp_path: Path) -> None:
    def opened() -> int:
        links = (path for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
        return sum(str(tmp_path) in str(link.readlink()) for link in links)

    async def run() -> int:
        async with ResponseLogWriter(tmp_path, open_sessions=4) as writer:
            for round_ in range(3):
                written = [await writer.queue_completion_event(event(f"s{n}", round_)) for n in range(40)]
                await asyncio.gather(*written)
            return opened()

    assert asyncio.run(run()) == 2 * 4
    assert all(numbers(tmp_path, f"s{n}") == [0, 1, 2] for n in range(40))


def test_the_longest_unused_session_is_closed_first(tmp_path: Path) -> None:
    sessions = OpenSessions(tmp_path, "daemon", "never", limit=2, idle=1000)
    for now, session_id in enumerate(("a", "b", "a", "c")):
        sessions.write({session_id: [encode(event(session_id))]}, now)
    SessionWriter(tmp_path, "b", "other").close()
    for held in ("a", "c"):
        with pytest.raises(SessionLocked):
            SessionWriter(tmp_path, held, "other")
    sessions.close_all()


def test_a_session_is_closed_when_it_has_been_idle(tmp_path: Path) -> None:
    sessions = OpenSessions(tmp_path, "daemon", "never", limit=10, idle=30)
    sessions.write({"a": [encode(event("a"))]}, 100)
    sessions.write({"b": [encode(event("b"))]}, 129)
    assert len(sessions) == 2
    sessions.write({"b": [encode(event("b"))]}, 130)
    assert len(sessions) == 1
    sessions.close_idle(159.5)
    assert len(sessions) == 1
    sessions.close_idle(160)
    assert len(sessions) == 0


def test_idle_sessions_are_closed_although_nothing_else_happens(tmp_path: Path) -> None:
    async def run() -> None:
        async with ResponseLogWriter(tmp_path, idle_seconds=0.02) as writer, asyncio.timeout(HANG):
            await (await writer.queue_completion_event(event("s", 1)))
            while True:
                try:
                    SessionWriter(tmp_path, "s", "other").close()
                    break
                except SessionLocked:
                    await asyncio.sleep(0.005)
            assert (await (await writer.queue_completion_event(event("s", 2)))).line_number == 2

    asyncio.run(run())


def test_a_session_is_made_finished_and_given_up(tmp_path: Path) -> None:
    async def run() -> str:
        async with ResponseLogWriter(tmp_path, "daemon_1") as writer:
            session_id = await writer.create_session("agent_a", "team")
            await writer.queue_completion_event(event(session_id))
            with pytest.raises(SessionLocked, match="daemon_1"):
                SessionWriter(tmp_path, session_id, "daemon_2")
            place = await writer.complete_session(session_id, "agent_a")
            assert place.line_number == 3
            SessionWriter(tmp_path, session_id, "daemon_2").close()
            await writer.transfer_session(session_id, "daemon_2")
            with SessionWriter(tmp_path, session_id, "daemon_2") as successor:
                assert successor.append(event(session_id)).line_number == 5
            await writer.release("never_opened")
            return session_id

    session_id = asyncio.run(run())
    said = [json.loads(line) for line in log_of(tmp_path, session_id).read_bytes().splitlines()]
    assert [each["event"].partition(":")[2] for each in said] == [
        "created",
        "request",
        "completed",
        "transfer",
        "request",
    ]
    assert said[3]["data"] == {"session_id": session_id, "agent_id": "daemon_1", "to_agent": "daemon_2"}


def test_a_kill_loses_no_acknowledged_record_and_doubles_none(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from sidecar.writer import ResponseLogWriter
async def agent(writer, session):
    for number in range(10**9):
        record = {"event": "a:b", "data": {"session_id": session, "number": number, "text": "x" * 3000}}
        place = await (await writer.queue_completion_event(record))
        print(session, number, place.byte_offset, flush=True)
async def main():
    async with ResponseLogWriter(sys.argv[1]) as writer:
        await asyncio.gather(*(agent(writer, f"s{n}") for n in range(8)))
asyncio.run(main())
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as doomed:
        assert doomed.stdout
        said = [doomed.stdout.readline() for _ in range(500)]
        doomed.kill()
        said += doomed.stdout.readlines()
    acknowledged: dict[str, int] = {}
    for line in (line for line in said if line.endswith("\n")):
        session, number, offset = line.split()
        place = Place(f"responses/sessions/{session}.jsonl", 0, int(offset))
        assert at(tmp_path, place)["data"]["number"] == int(number)
        acknowledged[session] = int(number)
    for session, last in acknowledged.items():
        whole = log_of(tmp_path, session).read_bytes().rpartition(b"\n")[0].splitlines()
        found = [json.loads(line)["data"]["number"] for line in whole]
        assert found == list(range(len(found))) and len(found) > last


def test_a_full_disk_fails_what_it_does_not_take_and_nothing_else(tmp_path: Path) -> None:
    code = """
import asyncio, json, resource, sys
from sidecar.writer import ResponseLogWriter
def record(session, number, size):
    return {"event": "a:b", "data": {"session_id": session, "number": number, "text": "x" * size}}
async def main():
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with ResponseLogWriter(sys.argv[1]) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        written = [await writer.queue_completion_event(record("big", n, 500)) for n in range(6)]
        written.append(await writer.queue_completion_event(record("small", 0, 5)))
        first = await asyncio.gather(*written, return_exceptions=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        again = await (await writer.queue_completion_event(record("big", 9, 500)))
        print(json.dumps([str(p) if isinstance(p, Exception) else list(p) for p in [*first, again]]))
asyncio.run(main())
"""
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    outcomes = json.loads(result.stdout)
    assert [isinstance(outcome, list) for outcome in outcomes] == [True, True, True, False, False, False, True, True]
    assert [at(tmp_path, Place(*outcomes[n]))["data"]["number"] for n in (0, 1, 2, 6, 7)] == [0, 1, 2, 0, 9]
    assert outcomes[7][1] == 5  # behind the torn line


# Integration points


def test_a_completion_request_gets_its_agent_and_its_pattern(tmp_path: Path) -> None:
    async def run() -> list[Place]:
        async with ResponseLogWriter(tmp_path) as writer:
            data, context = {"prompt": "hi", "to_agent": "b"}, {"agent_id": "a", "session_id": "s"}
            first = await handle_completion_event("completion:request", data, context, response_writer=writer)
            assert data == {"prompt": "hi", "to_agent": "b"}
            answer = {"response": "ho", "agent_id": "b"}
            second = await handle_completion_event("completion:result", answer, context, response_writer=writer)
            anonymous = {"prompt": "hi", "agent_id": "c"}
            third = await handle_completion_event(
                "completion:request", anonymous, {"session_id": "s"}, response_writer=writer
            )
            return [await first, await second, await third]

    said = [at(tmp_path, place) for place in asyncio.run(run())]
    assert said[0]["data"] == {"prompt": "hi", "to_agent": "b", "agent_id": "a", "pattern": "peer_to_peer"}
    assert said[0]["metadata"] == {"agent_id": "a", "session_id": "s"}
    assert said[1]["data"] == {"response": "ho", "agent_id": "b"}
    assert said[2]["data"] == {"prompt": "hi", "agent_id": "c", "pattern": "general"}


ROUTES = [
    ({"content": "hi", "to_agent": "b"}, "peer_to_peer", True),
    ({"content": "hi", "routing": {"to_agents": ["b"]}}, "peer_to_peer", True),
    ({"content": "hi", "team_id": "t"}, "team", True),
    ({"content": "hi", "broadcast": True}, "broadcast", True),
    ({"content": "hi", "to_agents": ["b", "c"]}, "swarm", False),
    ({"content": "hi"}, "general", False),
    ({"content": "hi", "pattern": "role_assumption", "to_agent": "b"}, "role_assumption", False),
]


@pytest.mark.parametrize(("message", "pattern", "emitted"), ROUTES, ids=[route[1] for route in ROUTES])
def test_a_message_becomes_a_completion_or_an_event_by_its_pattern(
    message: dict[str, Any], pattern: str, emitted: bool
) -> None:
    calls: list[Any] = []

    async def emit_event(name: str, data: dict[str, Any]) -> None:
        calls.append((name, data))

    async def store_event(record: dict[str, Any]) -> None:
        calls.append(record)

    assert asyncio.run(route_message(message, emit_event=emit_event, store_event=store_event)) == pattern
    rest = {key: value for key, value in message.items() if key != "content"}
    if emitted:
        assert calls == [("completion:request", {"prompt": "hi", **rest, "pattern": pattern})]
    else:
        assert calls == [{"event": "agent:message", "data": message}]


def test_write_event_in_a_thread_stores_messages(tmp_path: Path) -> None:
    async def emit_event(name: str, data: dict[str, Any]) -> None:
        raise AssertionError((name, data))

    async def store_event(record: dict[str, Any]) -> Place:
        return await asyncio.to_thread(write_event, tmp_path, record)

    async def run() -> None:
        await route_message({"content": "hi"}, emit_event=emit_event, store_event=store_event)
        await route_message({"event": "state:set", "data": {}}, emit_event=emit_event, store_event=store_event)
        with pytest.raises(InvalidRecord):
            await route_message({"to_agent": "b"}, emit_event=emit_event, store_event=store_event)

    asyncio.run(run())
    names = sorted(path.name.split("_", 2)[2] for path in tmp_path.glob("events/*/evt_*.json"))
    assert names == ["agent_message.json", "state_set.json"]
