"""Worker processes that are lost, fail or cannot start: what is reported, and what is left of them."""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import subprocess
from contextlib import closing
from multiprocessing import active_children
from multiprocessing.context import SpawnProcess
from pathlib import Path

import orjson
import pytest

from faults.steps import children
from helpers.corpora import BASE
from helpers.support import HANG, Stepped, command, eventually, indexed, modelled, reference, write_lines
from sidecar.bulk import backlog
from sidecar.bulk.messages import ClosedSegments, ReadChunk, ReadSources, ReadTask, Result
from sidecar.bulk.workers import WorkerPool
from sidecar.config.settings import Settings
from sidecar.errors import SidecarError
from sidecar.guarded import GuardedFolder
from sidecar.indexer.saved_source import SavedSource
from sidecar.records import Report
from sidecar.service.supervisor import rebuild

KILLED = "killed by signal 9 (Killed)"


def write_sessions(root: Path, count: int, lines: int = 1) -> list[str]:
    """Write sessions on one day; returns their paths below the root."""
    record = {"event": "agent:say", "data": {"agent_id": "a", "text": "x" * 2_000}}
    content = b"".join(orjson.dumps({**record, "timestamp": BASE + number}) + b"\n" for number in range(lines))
    paths = [f"responses/sessions/s{number}.jsonl" for number in range(count)]
    for path in paths:
        write_lines(root / path, content)
    return paths


@pytest.fixture
def settings(root: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a root that is worth worker processes, however little there is to read."""
    monkeypatch.setattr("sidecar.bulk.load.MIN_PARALLEL_BYTES", 0)
    monkeypatch.setattr(backlog, "START_WORKERS_AT", 100)
    monkeypatch.setattr(backlog, "DISPATCH_AT", 50)
    return reference(root)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Logger and message of each warning."""
    return [(one.name, one.getMessage()) for one in caplog.records if one.levelno >= logging.WARNING]


def kill(process: int | None) -> None:
    assert process is not None
    os.kill(process, signal.SIGKILL)


# ---- lost


def test_a_worker_that_is_killed_during_a_backlog_is_logged_and_its_sources_are_read_without_it(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    write_sessions(settings.root, 300)
    with Stepped(settings) as stepped:
        stepped.now += 60
        eventually(lambda: stepped.sidecar.step(stepped.now) and stepped.sidecar._backlog._in_flight)
        victim = active_children()[0].pid
        kill(victim)
        stepped.turn(0)
        assert not active_children()
        assert not (settings.index_folder / backlog.BACKLOG_FOLDER).exists()
        assert indexed(settings.root) == modelled(settings.root)
        assert not stepped.sidecar.faults.current
    assert logged(caplog) == [
        ("sidecar.bulk.workers", f"worker process {victim} died: {KILLED}"),
        ("sidecar.bulk.backlog", f"worker processes failed, reading without them: a worker process died: {KILLED}"),
    ]


def test_a_worker_that_is_killed_during_a_rebuild_is_logged_and_ends_it(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    write_sessions(settings.root, 40, lines=100)
    victims: list[int | None] = []

    def kill_one(_: Report) -> None:
        if not victims:
            victims.append(active_children()[0].pid)
            kill(victims[0])

    with pytest.raises(SidecarError, match=r"^a worker process died: killed by signal 9") as raised:
        rebuild(settings, 2, kill_one)
    assert "reindex --workers 1" in raised.value.hint
    assert not active_children()
    assert not (settings.index_folder / "rebuild").exists()
    assert logged(caplog) == [("sidecar.bulk.workers", f"worker process {victims[0]} died: {KILLED}")]
    rebuild(settings, 2, lambda _: None)
    assert indexed(settings.root) == modelled(settings.root)


def test_a_worker_that_is_killed_while_it_has_nothing_to_do_is_noticed_with_the_next_command(
    settings: Settings, tmp_path: Path
) -> None:
    tasks = [ReadTask(1, path, 0, None) for path in write_sessions(settings.root, 1)]
    with GuardedFolder.open_own(tmp_path) as segments, closing(WorkerPool(settings, 1, segments)) as pool:
        assert list(pool.results()) == []
        (worker,) = active_children()
        worker.kill()
        worker.join()
        pool.submit(ReadSources(tasks))
        with pytest.raises(SidecarError, match="worker process died"):
            list(pool.results())


# ---- stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_rebuild_that_is_interrupted_takes_its_workers_with_it(root: Path, number: signal.Signals) -> None:
    """As by ctrl-C at a terminal, and by a service manager: both signal all processes of a group."""
    write_sessions(root, 12, lines=1_500)
    arguments = command("--root", root, "reindex", "--workers", "2")
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, start_new_session=True) as process:
        folder = root / "index/rebuild"
        eventually(lambda: list(folder.glob("parts-*/*.part")) or process.poll() is not None)
        workers = children(process.pid)
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=HANG)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert err == b""
    eventually(lambda: not any(Path(f"/proc/{worker}/fd/0").exists() for worker in workers))


def test_a_rebuild_whose_caller_gives_up_has_ended_its_workers_before_it_deletes_what_they_wrote(
    settings: Settings,
) -> None:
    write_sessions(settings.root, 40, lines=100)

    def give_up(_: Report) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        rebuild(settings, 2, give_up)
    assert not active_children()
    del raised  # till here its traceback has kept all that was open
    assert not (settings.index_folder / "rebuild").exists()


# ---- failed


def test_a_rebuild_that_fails_in_this_process_leaves_no_descriptor(root: Path) -> None:
    write_sessions(root, 20)

    def gives_up(report: Report) -> None:
        if report.done:
            raise KeyboardInterrupt

    gc.disable()
    try:
        before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                rebuild(reference(root), 1, gives_up)
        assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
    finally:
        gc.enable()


def test_what_a_worker_cannot_write_is_reported_with_the_place(settings: Settings, tmp_path: Path) -> None:
    tasks = [ReadTask(1, path, 0, None) for path in write_sessions(settings.root, 1)]
    folder = tmp_path / "incoming"
    folder.mkdir()
    with GuardedFolder.open_own(folder) as segments, closing(WorkerPool(settings, 2, segments)) as pool:
        list(pool.results())
        folder.rmdir()
        pool.submit(ReadSources(tasks))
        with pytest.raises(SidecarError, match=str(tmp_path)):
            list(pool.results())


def test_where_no_process_can_be_started_the_new_sources_are_read_without(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_sessions(settings.root, 300)
    started: list[SpawnProcess] = []
    start = SpawnProcess.start

    def start_one(process: SpawnProcess) -> None:
        if started:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(process)
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", start_one)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with Stepped(settings) as stepped:
        stepped.turn()
        assert indexed(settings.root) == modelled(settings.root)
        assert not stepped.sidecar.faults.current
    assert not active_children()
    why = "cannot start a worker process: Resource temporarily unavailable"
    assert logged(caplog) == [("sidecar.bulk.backlog", f"worker processes failed, reading without them: {why}")]
    with pytest.raises(SidecarError, match=why) as raised:
        rebuild(settings, 2, lambda _: None)
    assert "limits" in raised.value.hint and "--workers 1" in raised.value.hint


# ---- what comes back


def test_a_worker_closes_its_segments_after_all_that_was_submitted_before(settings: Settings, tmp_path: Path) -> None:
    tasks = [ReadTask(id_, path, 0, None) for id_, path in enumerate(write_sessions(settings.root, 9, lines=3), 1)]
    with GuardedFolder.open_own(tmp_path) as segments, closing(WorkerPool(settings, 2, segments)) as pool:
        for turn in range(2):  # a pool is used again and again
            read: list[Result] = []
            for task in tasks:
                pool.submit(ReadSources([task._replace(id=task.id + 9 * turn)]))
            pool.close_segments()
            read += pool.results()
            assert {one.source[1] for one in read if isinstance(one, SavedSource)} == {task.path for task in tasks}
            assert sum(one.entries for one in read if isinstance(one, ReadChunk)) == 27
            closed = [one.by_day for one in read if isinstance(one, ClosedSegments)]
            assert len(closed) == 2, "one report of each worker"
            names = [name for by_day in closed for of_day in by_day.values() for name in of_day]
            assert names and all(map(segments.status, names)) and len(names) == len(set(names))
            assert pool.is_idle and pool.poll() == []
