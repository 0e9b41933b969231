"""Many new sources at once are read by several processes, and become the very rows that one process makes of them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import orjson
import pytest

from helpers.archives import archived, session
from helpers.corpora import BASE, DAY, write_tree
from helpers.support import (
    Everything,
    Stepped,
    any_source,
    eventually,
    everything,
    indexed,
    modelled,
    once,
    rebuilt,
    reference,
    write_lines,
)
from helpers.trees import tree
from sidecar import Index
from sidecar.bulk import backlog
from sidecar.config.settings import Settings
from sidecar.guarded import GuardedFolder
from sidecar.indexer.catalog_writer import CatalogWriter
from sidecar.indexer.day_files import DayFiles
from sidecar.indexer.index_writer import IndexWriter
from sidecar.indexer.saved_source import SavedSource
from sidecar.indexer.segment import SegmentWriter
from sidecar.ingest.source import SourceState
from sidecar.query.catalog_reader import open_catalog
from sidecar.records import Line
from sidecar.service import daemon

SESSIONS = "responses/sessions"


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hundred are many, and come in slices that end anywhere; gives the paths that the readers have brought."""
    monkeypatch.setattr(backlog, "START_WORKERS_AT", 100)
    monkeypatch.setattr(backlog, "DISPATCH_AT", 50)
    monkeypatch.setattr(backlog, "MAX_IN_FLIGHT", 130)
    paths: list[str] = []
    take_in = IndexWriter.merge_segments

    def noting(
        ledger: IndexWriter, folder: GuardedFolder, parts: dict[int, list[str]], saved: list[SavedSource], since: int
    ) -> None:
        paths.extend(one.source[1] for one in saved)
        take_in(ledger, folder, parts, saved, since)

    monkeypatch.setattr(IndexWriter, "merge_segments", noting)
    return paths


@pytest.fixture
def stepped(tmp_path: Path, brought: list[str]) -> Iterator[Stepped]:  # noqa: ARG001
    """A sidecar on a tree of six hundred files, of all kinds, which it has not seen yet."""
    tree(tmp_path, 1, sessions=300, lines=12, events=300)
    with Stepped(reference(tmp_path)) as it:
        yield it


def handed_out(stepped: Stepped) -> list[str]:
    """Go on until readers have files; gives these."""
    stepped.now += 60
    it = stepped.sidecar._backlog
    eventually(lambda: stepped.sidecar.step(stepped.now) and it._in_flight)
    return list(it._in_flight)


def settled(stepped: Stepped) -> Everything:
    """Everything, once nothing waits."""
    for _ in range(3):
        stepped.turn()
    assert not stepped.sidecar.faults.current
    return everything(stepped.settings.index_folder)


def same(stepped: Stepped) -> None:
    """What was taken in is what a rebuild makes, and what the model says."""
    found = settled(stepped)
    assert found == rebuilt(stepped.settings)
    assert found.rows == modelled(stepped.settings.root)


def test_what_several_read_is_what_one_reads_alone(stepped: Stepped, brought: list[str]) -> None:
    same(stepped)
    found = indexed(stepped.settings.root)
    with Index(stepped.settings.root) as index:
        for agent in [one.agent for one in index.agents()]:
            by_agent = [one.id for one in index.timeline(agent=agent)]
            assert sorted(by_agent) == sorted(row[0] for row in found if agent in orjson.loads(row[8]))
    assert len(brought) == len(set(brought)) > 400
    assert not (stepped.settings.index_folder / backlog.BACKLOG_FOLDER).exists()


def test_few_new_files_are_read_without_another_process(tmp_path: Path, brought: list[str]) -> None:
    write_tree(tmp_path, 2, sessions=20, lines=5, events=20)
    with Stepped(reference(tmp_path)) as stepped:
        same(stepped)
    assert not brought


def test_files_that_come_go_and_change_while_they_are_read_are_read_once_and_to_their_end(
    stepped: Stepped, brought: list[str]
) -> None:
    root = stepped.settings.root
    chance = random.Random(1)
    for number in range(8):
        out = handed_out(stepped) if number < 3 else []
        sessions = sorted(root.glob(f"{SESSIONS}/*.jsonl"))
        for log in chance.sample(sessions, 40):
            write_lines(log, b"\n", {"event": "agent:say", "timestamp": BASE + number, "data": {"agent_id": "late"}})
        for log in chance.sample(sessions, 10):
            log.write_bytes(b'{"event": "again", "timestamp": %d}\n' % (BASE + number))
        write_lines(root / SESSIONS / f"new{number}.jsonl", {"event": "new", "timestamp": BASE})
        for path in chance.sample(out, min(5, len(out))):
            (root / path).unlink(missing_ok=True)
        stepped.sidecar.step(stepped.now)
    found = settled(stepped)
    there = {path for path in {row[4] for row in found.rows} if (root / path).exists()}
    assert [row for row in found.rows if row[4] in there] == modelled(root)
    assert len(brought) > 100


def test_what_is_no_file_any_more_when_a_reader_comes_to_it_stands_in_nobodys_way(stepped: Stepped) -> None:
    root = stepped.settings.root
    out = handed_out(stepped)
    waiting = list(stepped.sidecar._backlog._new)
    for number, path in enumerate([*out[-20:], *waiting[:20]]):
        with suppress(FileNotFoundError):
            (root / path).unlink()
        if number % 3 == 0:
            os.mkfifo(root / path)
        elif number % 3 == 1:
            (root / path).symlink_to("nowhere")
    for _ in range(3):
        stepped.turn()
    for path in root.rglob("*"):
        if path.is_fifo() or path.is_symlink():
            path.unlink()
    found = settled(stepped)
    assert [row for row in found.rows if (root / row[4]).exists()] == modelled(root)


def test_the_rest_of_a_large_file_is_read_in_the_ordinary_way(stepped: Stepped, brought: list[str]) -> None:
    large = stepped.settings.root / SESSIONS / "large.jsonl"
    for number in range(40):
        record = {"event": "ask:request", "timestamp": BASE + 9_000 * number, "request_id": f"r{number}"}
        write_lines(large, {**record, "data": {"agent_id": "a", "text": "x" * 80_000}})
    write_lines(large, *({"event": "ask:result", "timestamp": BASE, "request_id": f"r{n}"} for n in range(0, 40, 3)))
    same(stepped)
    assert f"{SESSIONS}/large.jsonl" in brought


def test_what_is_hinted_at_while_others_read_it_is_read_by_them_alone(stepped: Stepped, brought: list[str]) -> None:
    """By an event, which finds it new, and by what was found new before there were many."""
    out = handed_out(stepped)
    for path in out[::2]:
        stepped.sidecar._queue[path] = None
    waiting = stepped.sidecar._backlog._new
    stepped.sidecar._backlog._new = dict.fromkeys([*out[::3], *waiting])
    same(stepped)
    assert len(brought) == len(set(brought)) > 400


def test_what_could_not_be_read_before_is_no_new_source(stepped: Stepped, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of such a one, a state is in memory."""
    monkeypatch.setattr(backlog, "MAX_IN_FLIGHT", 1_000)
    root = stepped.settings.root
    logs = sorted((root / SESSIONS).iterdir())[:20]
    for log in logs:
        log.rename(log.with_suffix(".away"))
        log.symlink_to("nowhere")
        stepped.sidecar._queue[log.relative_to(root).as_posix()] = None
    stepped.sidecar.step(stepped.now)
    for log in logs:
        log.with_suffix(".away").replace(log)
        stepped.sidecar._backlog.add(log.relative_to(root).as_posix())
    same(stepped)
    for log in logs:
        write_lines(log, b"\n", {"event": "late", "timestamp": BASE})
    same(stepped)


def test_rows_whose_places_could_not_be_saved_are_made_again(stepped: Stepped, monkeypatch: pytest.MonkeyPatch) -> None:
    save, failures = CatalogWriter.save, [OSError("the disk is full")] * 2

    def failing(catalog: CatalogWriter, sources: Iterable[SavedSource], *rest: Any) -> None:
        sources = list(sources)
        if len(sources) > 50 and failures:
            raise failures.pop()
        save(catalog, sources, *rest)

    monkeypatch.setattr(CatalogWriter, "save", failing)
    while failures:
        stepped.turn(0)
        stepped.now += daemon.RETRY_DELAY
    same(stepped)


def test_an_answer_in_a_part_finds_a_request_that_stands_in_an_earlier_one(tmp_path: Path) -> None:
    log = "responses/sessions/s.jsonl"
    progress = SourceState(1, log, any_source("session"))
    asked = orjson.dumps({"event": "a:request", "timestamp": BASE, "data": {"agent_id": "a"}})
    answer = orjson.dumps({"event": "a:result", "timestamp": BASE, "correlation_id": "c", "data": {"agent_id": "b"}})
    (tmp_path / "index").mkdir()
    with (
        GuardedFolder.open_own(tmp_path / "index") as top,
        top.folder("parts", create=True) as folder,
        top.folder("daily", create=True) as daily,
        closing(DayFiles(daily)) as index,
    ):
        parts = SegmentWriter(folder)
        parts.write(progress.ingest([Line(0, 1, asked)]))
        made = parts.close()
        parts.write(progress.ingest([Line(len(asked) + 1, 2, answer)]))
        for one in (made, parts.close()):
            index.merge_segments(folder, one, 1)
    assert [(row[12], row[15]) for row in indexed(tmp_path)] == [("c", 1), ("c", 0)]


def test_a_reader_that_dies_costs_time_and_no_row(stepped: Stepped) -> None:
    handed_out(stepped)
    active_children()[-1].kill()
    stepped.turn(0)
    assert indexed(stepped.settings.root) == modelled(stepped.settings.root), "it waits for a scan"
    same(stepped)


def test_readers_end_with_the_sidecar_and_what_they_have_not_told_is_read_again(stepped: Stepped) -> None:
    handed_out(stepped)
    assert active_children()
    stepped.sidecar.abandon()
    assert not active_children()
    assert not (stepped.settings.index_folder / backlog.BACKLOG_FOLDER).exists()
    with Stepped(stepped.settings) as again:
        same(again)


def test_a_failure_of_the_index_meanwhile_is_recovered_from(stepped: Stepped) -> None:
    handed_out(stepped)
    daily = stepped.settings.index_folder / "daily"
    daily.rename(daily.with_name("away"))
    daily.write_bytes(b"")
    for _ in range(200):
        stepped.sidecar.step(stepped.now)
        if stepped.sidecar.faults.current:
            break
    assert "index" in stepped.sidecar.faults.current
    daily.unlink()
    daily.with_name("away").rename(daily)
    stepped.now += daemon.RETRY_DELAY
    same(stepped)


@pytest.fixture
def archive_beside(tmp_path: Path) -> Settings:
    """Settings of a root with one archived session, whose day has a filter."""
    settings = reference(tmp_path / "logs", archive=tmp_path / "archive")
    log = session(settings.root, "old", lines=20)
    write_lines(settings.root / SESSIONS / "next_day.jsonl", {"event": "agent:say", "timestamp": BASE + DAY})
    once(settings)  # of a single day nobody would ask the filter
    archived(settings)
    assert not log.exists()
    with closing(open_catalog(settings.index_folder)) as catalog:
        assert catalog.filtered()
    return settings


def many(settings: Settings) -> list[str]:
    """Sessions on the day of the archived one; gives the agents that speak there."""
    agents = [f"new_{number}" for number in range(120)]
    for number, agent in enumerate(agents):
        said = {"event": "agent:say", "timestamp": BASE + number, "data": {"agent_id": agent}}
        write_lines(settings.root / SESSIONS / f"{agent}.jsonl", said)
    return agents


def test_a_session_that_goes_on_after_it_was_archived_is_found_among_many_new_ones(
    archive_beside: Settings, brought: list[str]
) -> None:
    settings = archive_beside
    before = len(everything(settings.index_folder).rows) - 1
    with Stepped(settings) as stepped:
        write_lines(settings.root / SESSIONS / "old.jsonl", {"event": "agent:say", "timestamp": BASE + 2})
        many(settings)
        found = settled(stepped)
        assert found == rebuilt(settings)
    assert len([row for row in found.rows if row[4].endswith("old.jsonl")]) == before + 1
    assert len(brought) == 120 and f"{SESSIONS}/old.jsonl" not in brought


def test_on_a_day_that_has_a_filter_many_new_ones_are_found_by_their_agents(
    archive_beside: Settings, brought: list[str]
) -> None:
    agents = many(archive_beside)
    with Stepped(archive_beside) as stepped:
        settled(stepped)
    assert len(brought) == 120
    with Index(archive_beside.root, archive_beside.archive) as index:
        assert [len(list(index.timeline(agent=agent))) for agent in agents] == [1] * 120
