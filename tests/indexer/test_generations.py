"""What the catalog tells those who copy rows elsewhere: what changed, what began again, what is gone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from helpers.support import Stepped, once, reference, write_lines
from sidecar.archive.job import ArchiveOptions, archive
from sidecar.service.supervisor import rebuild

T = 1_735_500_000.0


def told(root: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(root / "index" / "catalog.db")) as catalog:
        return catalog.execute(sql).fetchall()


def generation(root: Path, stem: str) -> tuple[int, int]:
    sql = f"SELECT number, checkpoint FROM generation g JOIN source s ON s.id = g.source WHERE stem = '{stem}'"
    ((number, checkpoint),) = told(root, sql)
    return number, checkpoint


def checkpoint(root: Path) -> int:
    return int(told(root, "SELECT value FROM meta WHERE key = 'checkpoint'")[0][0])


def epoch(root: Path) -> str:
    return str(told(root, "SELECT value FROM meta WHERE key = 'epoch'")[0][0])


@pytest.fixture
def log(root: Path) -> Path:
    path = root / "responses" / "sessions" / "s.jsonl"
    path.parent.mkdir(parents=True)
    return path


def record(at: float, **more: Any) -> dict[str, Any]:
    return {"event": "x:note", "timestamp": at, "data": {"agent_id": "a", **more}}


def test_a_log_that_grows_keeps_its_generation_and_notes_the_checkpoint(stepped: Stepped, log: Path) -> None:
    root = stepped.settings.root
    write_lines(log, record(T))
    stepped.turn()
    number, first = generation(root, "s")
    write_lines(log, record(T + 1))
    stepped.turn()
    assert generation(root, "s") == (number, checkpoint(root))
    assert checkpoint(root) > first


def test_a_log_that_begins_again_has_another_generation_even_if_it_has_grown_past_its_old_end(
    stepped: Stepped, log: Path
) -> None:
    root = stepped.settings.root
    write_lines(log, record(T))
    stepped.turn()
    before = generation(root, "s")[0]
    log.write_text("")
    write_lines(log, record(T + 1, text="other"), record(T + 2))
    stepped.turn()
    assert generation(root, "s")[0] > before


def test_a_log_that_is_gone_leaves_a_tombstone_and_one_that_comes_back_is_another(root: Path, log: Path) -> None:
    settings = reference(root)
    write_lines(log, {**record(T), "status": "completed"})
    once(settings)
    before = generation(root, "s")[0], checkpoint(root)
    archive(settings, ArchiveOptions(age=0.0))
    archive(settings, ArchiveOptions(age=0.0, keep=0.0))
    ((path, buried),) = told(root, "SELECT path, checkpoint FROM tombstone")
    assert path == "responses/sessions/s.jsonl"
    assert before[1] < buried <= checkpoint(root)
    assert told(root, "SELECT * FROM generation") == []
    write_lines(log, record(T + 5))
    once(settings)
    assert generation(root, "s")[0] > max(before[0], buried)


def test_a_rebuilt_index_is_another_epoch(root: Path, log: Path) -> None:
    write_lines(log, record(T))
    once(reference(root))
    first = epoch(root)
    once(reference(root))
    assert epoch(root) == first
    rebuild(reference(root), 1, lambda _: None)
    assert epoch(root) != first
    number = generation(root, "s")[0]
    write_lines(log, record(T + 1))
    once(reference(root))
    assert generation(root, "s") == (number, checkpoint(root))


def test_a_rotated_log_has_another_generation_because_its_rows_have_other_names(stepped: Stepped, log: Path) -> None:
    root = stepped.settings.root
    write_lines(log, record(T))
    stepped.turn()
    before = generation(root, "s")[0]
    log.rename(log.with_name("s.jsonl.1"))
    write_lines(log, record(T + 1))
    stepped.turn()
    assert generation(root, "s")[0] > before
