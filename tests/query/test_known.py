"""What an open library remembers of the numbers in a day's rows never outlives what they stand for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from helpers.support import once, reference, write_lines
from sidecar.query.index import Index
from sidecar.store import layout

BASE = 1735500000.0


def record(author: str, to: str, number: int = 0) -> dict[str, Any]:
    return {"event": "e:request", "timestamp": BASE + number, "data": {"agent_id": author, "to_agent": to}}


def parties(root: Path) -> list[int]:
    with closing(sqlite3.connect(layout.daily_paths(root / "index")[0])) as database:
        return [number for (number,) in database.execute("SELECT id FROM party ORDER BY id")]


def test_a_list_that_takes_the_number_of_a_deleted_one_is_not_mistaken_for_it(tmp_path: Path) -> None:
    log = tmp_path / "responses/sessions/s.jsonl"
    write_lines(log, record("alice", "bob"))
    once(reference(tmp_path))
    before = parties(tmp_path)
    with Index(tmp_path) as index:
        assert [entry.participating_agents for entry in index.timeline()] == [("alice", "bob")]
        assert [one.agent for one in index.agents()] == ["alice", "bob"]
        log.write_text("no record, of which nothing is left in the index\n")
        once(reference(tmp_path))
        write_lines(log, record("carol", "dave"))
        once(reference(tmp_path))
        assert parties(tmp_path) == before
        assert [entry.participating_agents for entry in index.timeline()] == [("carol", "dave")]
        assert [(entry.author, entry.addressees) for entry in index.waiting(to="dave")] == [("carol", ("dave",))]
        assert [one.agent for one in index.agents()] == ["carol", "dave"]


def test_what_is_added_to_a_day_is_seen_by_a_library_that_knows_it(tmp_path: Path) -> None:
    log = tmp_path / "responses/sessions/s.jsonl"
    write_lines(log, record("alice", "bob"))
    once(reference(tmp_path))
    with Index(tmp_path) as index:
        assert [one.entries for one in index.agents()] == [1, 1]
        assert len(list(index.timeline())) == 1
        write_lines(log, record("alice", "erin", 1), record("bob", "alice", 2))
        once(reference(tmp_path))
        assert [(one.agent, one.entries) for one in index.agents()] == [("alice", 3), ("bob", 2), ("erin", 1)]
        assert [entry.addressees for entry in index.timeline()] == [("bob",), ("erin",), ("alice",)]


def test_the_roles_of_an_entry_may_be_changed_without_a_trace(tmp_path: Path) -> None:
    first = record("alice", "bob")
    first["data"]["role"] = "lead"
    write_lines(tmp_path / "responses/sessions/s.jsonl", first, record("alice", "bob", 1))
    once(reference(tmp_path))
    with Index(tmp_path) as index:
        for entry in index.timeline():
            entry.agent_roles["alice"] = "gone"  # type: ignore[index]
        assert [dict(entry.agent_roles) for entry in index.timeline()] == [{"alice": "lead"}] * 2
