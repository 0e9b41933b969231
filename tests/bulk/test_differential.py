"""Three ways to the same rows: a real `sidecar run` that follows, a rebuild, and the plain model.

The trees are written piece by piece, in random order and at random places, while the process follows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.corpora import BASE
from helpers.support import LATER, eventually, everything, indexed, modelled, rebuilt, reference, running, write_lines
from helpers.trees import Copier, tree
from sidecar.bulk.rebuild import reindex
from sidecar.config.settings import Settings
from sidecar.query.index import Index
from sidecar.records import Report
from sidecar.service.supervisor import rebuild, run_once


def bytes_of(root: Path) -> int:
    """Whole lines below a root, which is what a sidecar that has caught up has consumed."""
    sessions = (path.read_bytes() for path in root.glob("responses/**/*.jsonl"))
    return sum(content.rfind(b"\n") + 1 for content in sessions)


def caught_up(root: Path) -> bool:
    """All whole lines and all event files are in the catalog; what does not parse has been rejected."""
    sources = everything(root / "index").sources
    events = [source for source in sources if source[0].startswith("events/")]
    return (
        sum(source[1] for source in sources if source not in events) == bytes_of(root)
        and len(events) == len(list(root.glob("events/*/*.json")))
        and all(source[1] for source in events)
    )


@pytest.mark.parametrize("seed", [1, 3])
def test_a_sidecar_that_follows_has_the_rows_of_a_rebuild_and_of_the_model(seed: int, tmp_path: Path) -> None:
    tree(tmp_path / "all", seed)
    root = tmp_path / "logs"
    root.mkdir()
    copier = Copier(tmp_path / "all", root, random.Random(seed))
    with running(root):
        while copier.write_some():
            pass
        eventually(lambda: caught_up(root))
        assert indexed(root) == modelled(root)
    assert everything(root / "index") == rebuilt(reference(root))


def test_a_sidecar_that_polls_has_them_too(tmp_path: Path) -> None:
    tree(tmp_path / "all", 4, events=10)
    root = tmp_path / "logs"
    root.mkdir()
    (tmp_path / "config.yaml").write_text("polling: true\nscan_interval: 0.1\n")
    copier = Copier(tmp_path / "all", root, random.Random(4))
    with running(root, "--config", str(tmp_path / "config.yaml")):
        while copier.write_some():
            pass
        eventually(lambda: caught_up(root))
    assert indexed(root) == modelled(root)
    assert everything(root / "index") == rebuilt(reference(root))


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A tree that lies still, indexed."""
    root = tmp_path_factory.mktemp("settled")
    tree(root, 7, sessions=40, lines=400, events=60)
    settings = reference(root)
    run_once(settings, lambda _: None)
    return settings


def test_run_once_has_the_rows_of_the_model(settled: Settings) -> None:
    assert indexed(settled.root) == modelled(settled.root)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_does_not_show(settled: Settings, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.bulk.load.MIN_PARALLEL_BYTES", 0)
    rebuild(settled, workers, lambda _: None)
    assert indexed(settled.root) == modelled(settled.root)
    assert everything(settled.index_folder).rows == rebuilt(settled).rows


def test_a_rebuild_of_a_rebuild_is_the_same(settled: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.bulk.workers.time.time", lambda: LATER)  # every event file has settled
    rebuild(settled, 1, lambda _: None)
    first = everything(settled.index_folder)
    reindex(settled, 1)
    assert everything(settled.index_folder) == first


def test_a_sidecar_goes_on_from_a_rebuild(tmp_path: Path) -> None:
    tree(tmp_path / "all", 9, sessions=4, events=10)
    root = tmp_path / "logs"
    root.mkdir()
    settings = reference(root)
    copier = Copier(tmp_path / "all", root, random.Random(9))
    more = True
    while more:
        for _ in range(15):
            more = copier.write_some()
        rebuild(settings, 1, lambda _: None)
        for _ in range(15):
            more = copier.write_some()
        run_once(settings, lambda _: None)
    assert indexed(root) == modelled(root)
    assert everything(root / "index").rows == rebuilt(settings).rows


@pytest.mark.parametrize(("parts", "remembered"), [(2, 400_000), (64, 50)])
def test_days_that_come_again_are_loaded_in_parts_and_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int, remembered: int
) -> None:
    monkeypatch.setattr("sidecar.indexer.segment.MAX_OPEN_SEGMENTS", parts)
    monkeypatch.setattr("sidecar.indexer.segment.MAX_REMEMBERED", remembered)
    monkeypatch.setattr("sidecar.logs.tail.LONG_LINE", 1)
    monkeypatch.setattr("sidecar.logs.tail.CHUNK_BYTES", 3000)  # answers come in a later batch than their requests
    tree(tmp_path, 11, sessions=6, lines=200, events=10)
    settings = reference(tmp_path)
    rebuild(settings, 1, lambda _: None)
    assert indexed(tmp_path) == modelled(tmp_path)
    with Index(tmp_path) as index:
        found = list(index.timeline())
        assert [(entry.file_path, index.get(f"{entry.file_path}:{entry.byte_offset}")) for entry in found] == [
            (entry.file_path, entry) for entry in found
        ]
        for agent in index.agents():
            there = [entry for entry in found if agent.agent in entry.participating_agents]
            assert list(index.timeline(agent=agent.agent)) == there


def test_requests_that_are_answered_in_a_later_part_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.indexer.segment.MAX_REMEMBERED", 1)
    monkeypatch.setattr("sidecar.logs.tail.LONG_LINE", 1)
    monkeypatch.setattr("sidecar.logs.tail.CHUNK_BYTES", 100)
    ask = {"event": "chat:request", "timestamp": BASE, "data": {"agent_id": "a"}}
    answer = {"event": "chat:result", "timestamp": BASE + 1, "correlation_id": "c", "data": {"agent_id": "b"}}
    write_lines(tmp_path / "responses/sessions/s.jsonl", ask, {"event": "x", "pad": "x" * 200}, answer)
    rebuild(reference(tmp_path), 1, lambda _: None)
    assert indexed(tmp_path) == modelled(tmp_path)
    assert [row[15] for row in indexed(tmp_path)] == [1, 0, 0]


def stays_away(_: Path, __: Path) -> None:
    pass


def comes_back(log: Path, away: Path) -> None:
    away.rename(log)


def is_another_file(log: Path, _: Path) -> None:
    write_lines(log, {"event": "agent:say", "timestamp": BASE + 9, "data": {"agent_id": "b"}})


@pytest.mark.parametrize("then", [stays_away, comes_back, is_another_file])
def test_a_log_that_is_moved_away_while_a_rebuild_reads_it_has_each_row_once(
    root: Path, then: Callable[[Path, Path], None]
) -> None:
    log, away = root / "responses/sessions/s.jsonl", root / "s.jsonl.1"
    record = {"event": "agent:say", "timestamp": BASE, "data": {"agent_id": "a", "text": "x" * 50_000}}
    write_lines(log, *[record] * 50)
    whole = modelled(root)

    def move_away(_: Report) -> None:  # after the first chunk
        if log.exists():
            log.rename(away)

    settings = reference(root)
    found = rebuild(settings, 1, move_away)
    assert found.unreadable == ("responses/sessions/s.jsonl: No such file or directory",)
    read = indexed(root)
    assert 0 < len(read) < 50 and read == whole[: len(read)]
    then(log, away)
    run_once(settings, lambda _: None)
    assert indexed(root) == (modelled(root) if log.exists() else read)


def test_nothing_of_a_rebuild_is_left_behind(settled: Settings) -> None:
    rebuild(settled, 1, lambda _: None)
    names = {path.name for path in settled.index_folder.iterdir()}
    assert names == {"catalog.db", "daily", "sidecar.lock"}
    assert not [path for path in (settled.index_folder / "daily").iterdir() if path.suffix != ".db"]
