"""What a daily file costs, and how SQLite goes about the questions that people ask its view."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from helpers.support import once, reference, write_lines
from sidecar import Index

BASE = 1_735_500_000.0
SESSION = "responses/sessions/s.jsonl"


@pytest.fixture
def day(root: Path) -> Iterator[sqlite3.Connection]:
    """The one day of a small log."""
    write_lines(root / SESSION, {"event": "agent:spawn", "timestamp": BASE, "data": {"agent_id": "a"}})
    once(reference(root))
    (path,) = (root / "index/daily").glob("*.db")
    with closing(sqlite3.connect(path)) as day:
        yield day


@pytest.mark.parametrize(
    ("question", "index"),
    [
        ("timestamp > 5 ORDER BY timestamp", "entry_time"),
        ("timestamp > 5 AND pattern_type = 'peer_to_peer' LIMIT 100", "entry_time"),
        ("timestamp > 5 AND participating_agents LIKE '%\"a\"%' ORDER BY timestamp", "entry_time"),
        ("session_id = 's'", "entry_context"),
        ("session_id = 's' AND participating_agents LIKE '%\"a\"%' ORDER BY timestamp", "entry_context"),
        ("initiating_agent = 'a' ORDER BY timestamp", "entry_context"),
        ("conversation_id = 's'", "entry_context"),
        ("correlation_id = 'c'", "entry_correlation"),
        ("requests_response = 1 AND has_response = 0", "entry_pending"),
        ("requests_response = 1 AND has_response = 0 AND timestamp > 5 ORDER BY timestamp", "entry_pending"),
    ],
)
def test_a_question_to_the_view_finds_its_entries_by_an_index(
    day: sqlite3.Connection, question: str, index: str
) -> None:
    plan = [row[3] for row in day.execute(f"EXPLAIN QUERY PLAN SELECT * FROM ksi_index WHERE {question}")]
    (entries,) = [step for step in plan if step.startswith(("SEARCH e ", "SCAN e"))]
    assert f"INDEX {index}" in entries, plan
    # And nothing is walked besides: every other table is entered by a number or a text.
    assert [step for step in plan if step.startswith("SCAN") and index not in step] == [], plan


def test_names_that_nobody_asks_the_view_for_are_not_looked_up(day: sqlite3.Connection) -> None:
    plan = [row[3] for row in day.execute("EXPLAIN QUERY PLAN SELECT session_id FROM ksi_index WHERE timestamp > 5")]
    assert sum("LEFT-JOIN" in step for step in plan) <= 1 or sqlite3.sqlite_version_info < (3, 39), plan


@pytest.mark.parametrize("how", ["live", "rebuilt"])
def test_a_day_of_one_entry_takes_at_most_40_kilobytes(root: Path, how: str) -> None:
    for number in range(20):
        record = {"event": "agent:spawn", "timestamp": BASE + number * 86_400, "data": {"agent_id": f"a{number}"}}
        write_lines(root / SESSION, record)
        if how == "live":
            once(reference(root))
    once(reference(root))
    days = list((root / "index/daily").iterdir())
    assert len(days) == 20
    assert max(day.stat().st_size for day in days) <= 40_000
    assert sum(file.stat().st_size for file in (root / "index").rglob("*") if file.is_file()) <= 20 * 40_000 + 200_000


def test_an_entry_says_who_spoke_to_whom(root: Path) -> None:
    spoken = [
        ({"agent_id": "a", "to_agents": ["b", "c"], "participants": ["d"]}, "a", ("b", "c")),
        ({"agent_id": "a", "participants": ["b"]}, "a", ()),
        ({"agent_id": "b", "to_agents": ["b"]}, "b", ("b",)),
        ({"agent_id": "b", "to_agents": ["c", "b", "a"]}, "b", ("c", "b", "a")),
        ({"to_agent": "c"}, "a", ("c",)),  # the owner's, who is not named
    ]
    for number, (data, _, _) in enumerate(spoken):
        write_lines(root / SESSION, {"event": "agent:say", "timestamp": BASE + number, "data": data})
    write_lines(root / SESSION, {"event": "completion:result", "timestamp": BASE + 9, "data": {"to_agent": "b"}})
    once(reference(root))
    with Index(root) as index:
        entries = [(entry.author, entry.addressees) for entry in index.timeline()]
    assert entries == [*((author, addressees) for _, author, addressees in spoken), (None, ("b",))]


def test_a_request_says_how_long_its_first_answer_took(root: Path) -> None:
    def record(event: str, seconds: float, correlation: str) -> dict[str, object]:
        data = {"agent_id": "a"}
        return {"event": event, "timestamp": BASE + seconds, "correlation_id": correlation, "data": data}

    write_lines(root / SESSION, record("a:request", 0, "c1"), record("a:request", 1, "c2"))
    once(reference(root))
    write_lines(root / SESSION, record("a:result", 2.5, "c1"))
    once(reference(root))
    write_lines(root / SESSION, record("a:result", 7, "c1"), record("a:result", 86_400, "c3"))
    once(reference(root))
    write_lines(root / SESSION, record("a:result", 86_401, "c3"), record("a:request", 86_402, "c3"))
    once(reference(root))
    with Index(root) as index:
        requests = [entry for entry in index.timeline() if entry.is_request]
        assert [entry.answered_after for entry in requests] == [2.5, None, -2.0]
        assert [entry.has_response for entry in requests] == [True, False, True]
        assert {entry.answered_after for entry in index.timeline() if not entry.is_request} == {None}


def test_participants_that_look_alike_and_speak_otherwise_are_told_apart(root: Path) -> None:
    write_lines(
        root / SESSION,
        {"event": "agent:say", "timestamp": BASE, "data": {"agent_id": "a", "to_agent": "b"}},
        {"event": "agent:say", "timestamp": BASE + 1, "data": {"agent_id": "a", "participants": ["b"]}},
    )
    once(reference(root))
    with Index(root) as index:
        assert [entry.addressees for entry in index.timeline()] == [("b",), ()]
        assert {orjson.dumps(entry.participating_agents) for entry in index.timeline()} == {b'["a","b"]'}
