"""The library's questions, held against a brute force over the view and against the reference's own SQL."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import FrozenInstanceError, fields
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from helpers.corpora import AGENTS, BASE, CONVERSATIONS, DAY, TEAMS, write_tree
from helpers.support import Stepped, indexed, reference, write_lines
from oracle.model import FIELDS
from sidecar import Entry, Index
from sidecar.errors import AmbiguousId, BadArgument, BadTime, EntryNotFound, UnknownColumn
from sidecar.query.day_reader import DayReader
from sidecar.query.filters import Filter
from sidecar.query.pages import Position
from sidecar.service.supervisor import run_once

SEED = 5

Rows = list[dict[str, Any]]
"""Of the view, by column."""


def index_tree(root: Path) -> None:
    """Index a reference tree, as `sidecar run --once` does."""
    run_once(reference(root), lambda _: None)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with every oddity, indexed."""
    root = tmp_path_factory.mktemp("logs")
    write_tree(root, SEED, sessions=12, lines=220, events=60)
    index_tree(root)
    return root


@pytest.fixture(scope="module")
def rows(root: Path) -> Rows:
    """All rows of all days' views, with what an entry has beside them, by time, path and place."""
    found = [dict(zip(FIELDS, row, strict=True)) for row in indexed(root)]
    assert len(found) > 2_000
    return sorted(found, key=lambda row: (row["timestamp"], row["file_path"], row["byte_offset"]))


@pytest.fixture
def index(root: Path) -> Iterator[Index]:
    with Index(root) as index:
        yield index


def as_row(entry: Entry) -> dict[str, Any]:
    """An entry as the view shows it."""
    row = {field: getattr(entry, field) for field in FIELDS}
    row["participating_agents"] = orjson.dumps(entry.participating_agents).decode()
    row["agent_roles"] = orjson.dumps(entry.agent_roles).decode()
    return row


def daily(root: Path) -> list[Path]:
    return sorted((root / "index" / "daily").glob("*.db"))


# ---- the timeline


def test_the_timeline_is_every_row_of_every_day_by_time_path_and_place(index: Index, rows: Rows) -> None:
    assert list(map(as_row, index.timeline())) == rows


def test_the_timeline_reversed_is_the_timeline_from_its_end(index: Index, rows: Rows) -> None:
    assert list(map(as_row, index.timeline(reverse=True))) == rows[::-1]


FITS: dict[str, Callable[[dict[str, Any], Any], bool]] = {
    "since": lambda row, wanted: row["timestamp"] >= wanted,
    "until": lambda row, wanted: row["timestamp"] < wanted,
    "agent": lambda row, wanted: wanted in orjson.loads(row["participating_agents"]),
    "session": lambda row, wanted: row["session_id"] == wanted,
    "event_type": lambda row, wanted: row["event_type"] == wanted,
    "pattern": lambda row, wanted: row["pattern_type"] == wanted,
    "conversation": lambda row, wanted: row["conversation_id"] == wanted,
    "correlation": lambda row, wanted: row["correlation_id"] == wanted,
}


def some_filter(random: Random, rows: Rows) -> dict[str, Any]:
    """A filter of one to three kinds, most of them taken from a row, so that something fits."""
    row = random.choice(rows)
    values = {
        "since": random.choice([row["timestamp"], BASE + random.randint(-DAY, DAY)]),
        "until": random.choice([row["timestamp"], BASE + random.randint(-DAY, 3 * DAY)]),
        "agent": random.choice([*orjson.loads(row["participating_agents"]), *map(str, AGENTS), "nobody"]),
        "session": random.choice([row["session_id"], ""]),
        "event_type": row["event_type"],
        "pattern": row["pattern_type"],
        "conversation": random.choice([row["conversation_id"], *map(str, CONVERSATIONS + TEAMS)]),
        "correlation": row["correlation_id"] or "c1",
    }
    return {key: values[key] for key in random.sample(sorted(values), random.choice([1, 1, 2, 2, 3]))}


@pytest.mark.parametrize("seed", range(8))
def test_a_filter_gives_what_a_look_at_every_row_gives(index: Index, rows: Rows, seed: int) -> None:
    random = Random(f"filters {seed}")
    for _ in range(25):
        wanted = some_filter(random, rows)
        expected = [row for row in rows if all(FITS[key](row, value) for key, value in wanted.items())]
        reverse = random.random() < 0.4
        limit = random.choice([None, None, 0, 1, 7, 400])
        if reverse:
            expected.reverse()
        found = list(map(as_row, index.timeline(**wanted, reverse=reverse, limit=limit)))
        assert found == expected[:limit], (wanted, reverse, limit)


def test_every_kind_of_filter_finds_something_in_these_logs(index: Index, rows: Rows) -> None:
    # The test above would hold of an index where nothing fits anything.
    for wanted in (
        {"agent": "agent_a"},
        {"agent": 'quo"te\\'},
        {"session": rows[100]["session_id"]},
        {"event_type": "completion:result"},
        {"pattern": "swarm"},
        {"conversation": "team_1"},
        {"correlation": "c1"},
        {"since": BASE, "until": BASE + DAY},
    ):
        assert next(index.timeline(**wanted), None) is not None, wanted


def test_since_is_included_and_until_is_not(index: Index, rows: Rows) -> None:
    moment = rows[len(rows) // 2]["timestamp"]
    assert next(index.timeline(since=moment)).timestamp == moment
    assert next(index.timeline(until=moment, reverse=True)).timestamp < moment


def test_an_entry_a_quarter_of_a_microsecond_before_midnight_is_found_from_its_own_time_on(tmp_path: Path) -> None:
    moment = BASE + 16_799.9999998
    write_lines(tmp_path / "responses/sessions/s.jsonl", {"event": "agent:spawn", "timestamp": moment})
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        (entry,) = index.timeline(since=moment)
        assert index.read(entry)["timestamp"] == moment


def test_columns_are_the_attributes_of_the_entries(index: Index) -> None:
    names = [field.name for field in fields(Entry)]
    entries = list(index.timeline())
    assert list(index.timeline(columns=names)) == [tuple(getattr(entry, name) for name in names) for entry in entries]
    few = ("correlation_id", "id", "author")
    last = [(entry.correlation_id, entry.id, entry.author) for entry in entries[-300:][::-1]]
    assert list(index.timeline(columns=few, reverse=True, limit=300)) == last


@pytest.mark.parametrize(
    ("columns", "named"),
    [(["id", "nothing"], "'nothing'"), ("id", "'id'"), ([], "empty"), (["participants"], "'participants'")],
)
def test_a_column_that_no_entry_has_is_refused_at_the_call(index: Index, columns: Any, named: str) -> None:
    with pytest.raises(UnknownColumn, match=f"^columns: .*{named}"):
        index.timeline(columns=columns)


def test_roles_of_one_entry_are_not_those_of_another(index: Index) -> None:
    entries = [entry for entry in index.timeline() if entry.agent_roles][:2]
    assert len({id(entry.agent_roles) for entry in entries}) == 2


def test_a_limit_below_zero_is_refused(index: Index) -> None:
    with pytest.raises(BadArgument, match="limit"):
        index.timeline(limit=-1)


def test_a_time_that_is_none_is_refused_at_the_call(index: Index) -> None:
    with pytest.raises(BadTime):
        index.timeline(since="soon")


# ---- pages


@pytest.fixture(scope="module")
def ties(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sessions whose 900 records all bear one time, and one record before and after them."""
    root = tmp_path_factory.mktemp("ties")
    write_lines(root / "responses/sessions/m.jsonl", {"event": "agent:spawn", "timestamp": BASE - 1})
    for name in ("b", "a", "c"):
        data = {"agent_id": f"agent_{name}", "to_agent": "all"}
        record = {"event": "completion:request", "timestamp": BASE, "data": data}
        write_lines(root / f"responses/sessions/{name}.jsonl", *[record] * 300)
    write_lines(root / "responses/sessions/z.jsonl", {"event": "agent:spawn", "timestamp": BASE + 1})
    index_tree(root)
    return root


@pytest.mark.parametrize("wanted", [{}, {"agent": "all"}, {"pattern": "peer_to_peer"}, {"since": BASE - 1}])
@pytest.mark.parametrize("reverse", [False, True])
def test_entries_of_one_time_come_once_each_across_pages(ties: Path, wanted: dict[str, Any], reverse: bool) -> None:
    with Index(ties) as index:
        found = [tuple(Position.of(entry)) for entry in index.timeline(**wanted, reverse=reverse)]
    assert found == sorted(set(found), reverse=reverse)
    assert len(found) == (900 if "agent" in wanted or "pattern" in wanted else 902)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("agent", [None, "agent_a"])
def test_pages_of_any_size_put_together_are_the_day(root: Path, rows: Rows, size: int, agent: str | None) -> None:
    path = max(daily(root), key=lambda path: path.stat().st_size)
    wanted = Filter(agent=agent, pattern="peer_to_peer" if agent else None)
    expected = [
        row
        for row in rows
        if time.strftime("%Y-%m-%d", time.gmtime(row["timestamp"] // 1)) == path.stem
        and (agent is None or (FITS["agent"](row, agent) and row["pattern_type"] == "peer_to_peer"))
    ][:200]
    for reverse in (False, True):
        with closing(DayReader(path)) as day:
            after = None
            found: list[Entry] = []
            while (page := day.page(wanted, after, size, reverse).entries) and len(found) < 200:
                assert len(page) <= size
                found += page
                after = Position.of(page[-1])
        if not reverse:
            assert list(map(as_row, found))[:200] == expected
        else:
            places = [Position.of(entry) for entry in found]
            assert places == sorted(set(places), reverse=True)


# ---- laziness and pruning


@pytest.fixture
def three_days(tmp_path: Path) -> Path:
    """Ten entries on each of three days."""
    for n in range(3):
        records = [{"event": "agent:spawn", "timestamp": BASE + n * DAY + i} for i in range(10)]
        write_lines(tmp_path / f"responses/sessions/s{n}.jsonl", *records)
    index_tree(tmp_path)
    assert len(daily(tmp_path)) == 3
    return tmp_path


def test_the_first_entries_come_without_a_look_at_later_days(three_days: Path) -> None:
    for path in daily(three_days)[1:]:
        path.write_bytes(b"no database at all")
    with Index(three_days) as index:
        assert [entry.timestamp for entry in islice(index.timeline(), 10)] == [BASE + i for i in range(10)]
        assert len(list(index.timeline(until=BASE + 100))) == 10


def test_days_that_cannot_hold_what_is_wanted_are_not_opened(three_days: Path) -> None:
    first, _, last = daily(three_days)
    first.write_bytes(b"no database at all")
    last.write_bytes(b"no database at all")
    with Index(three_days) as index:
        found = list(index.timeline(since=BASE + DAY, until=BASE + DAY + 100))
        assert len(found) == 10
        assert list(index.timeline(since=BASE + DAY, until=BASE + DAY + 100, reverse=True)) == found[::-1]


def test_a_timeline_that_is_not_read_to_its_end_leaves_nothing_open(root: Path) -> None:
    # conftest fails a test that leaves descriptors open
    with Index(root) as index:
        timeline = index.timeline()
        next(timeline)


def test_what_is_written_while_a_timeline_is_read_never_makes_an_entry_come_twice(three_days: Path) -> None:
    with Index(three_days) as index:
        timeline = index.timeline(since=BASE + 2 * DAY)
        found = [next(timeline)]
        write_lines(three_days / "responses/sessions/s2.jsonl", {"event": "late", "timestamp": BASE + 2 * DAY})
        index_tree(three_days)
        found += timeline
        assert len({entry.id for entry in found}) == len(found) >= 10


# ---- one entry


def test_every_entry_is_found_by_its_path_and_place(index: Index, rows: Rows) -> None:
    for row in rows[::97]:
        assert as_row(index.get(f"{row['file_path']}:{row['byte_offset']}")) == row


def test_an_entry_is_found_by_its_id(index: Index, rows: Rows) -> None:
    for row in rows[::97]:
        assert as_row(index.get(row["id"])) == row


NO_IDS = ["nobody:0", "", ":", "x", "x:", ":5", "x:-1", "x:1.5", "x:" + "9" * 30, "x:٣", "../s0:0", "s0:1"]


@pytest.mark.parametrize("id", NO_IDS)
def test_an_id_that_no_entry_has_is_told(three_days: Path, id: str) -> None:
    with Index(three_days) as index, pytest.raises(EntryNotFound) as caught:
        index.get(id)
    assert repr(id) in str(caught.value)
    assert "file stem" in caught.value.hint


def test_an_id_that_two_files_have_is_refused_and_the_path_tells_them_apart(tmp_path: Path) -> None:
    for day in ("2024-12-29", "2024-12-30"):
        write_lines(tmp_path / f"events/{day}/evt_1735500000_spawn.json", {"event": "agent:spawn"})
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        with pytest.raises(AmbiguousId, match=r"2024-12-29/.*2024-12-30/") as caught:
            index.get("evt_1735500000_spawn:0")
        assert "file path" in caught.value.hint
        path = "events/2024-12-30/evt_1735500000_spawn.json"
        assert index.get(f"{path}:0").file_path == path


# ---- exchange, conversation, sessions, agents, rejected


def test_an_exchange_is_a_request_and_its_answers_across_days(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "responses/sessions/s.jsonl",
        {"event": "completion:request", "correlation_id": "c", "timestamp": BASE, "data": {"agent_id": "a"}},
        {"event": "completion:request", "correlation_id": "d", "timestamp": BASE + 1},
        {"event": "completion:result", "correlation_id": "c", "timestamp": BASE + DAY, "data": {"agent_id": "b"}},
    )
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        request, answer = index.exchange("c")
        assert (request.is_request, request.has_response) == (True, True)
        assert answer.participating_agents == ("b", "a")
        assert list(index.exchange("C")) == []


def test_a_conversation_has_what_bears_its_name_and_what_bears_none_in_the_session_of_that_name(
    index: Index, rows: Rows
) -> None:
    session = rows[500]["session_id"]
    for name in (session, "conv_1", "team_1"):
        expected = [row for row in rows if row["conversation_id"] == name]
        assert expected
        assert list(map(as_row, index.conversation(name))) == expected


def test_sessions_come_by_their_creation_and_by_status(tmp_path: Path) -> None:
    folder = tmp_path / "responses/sessions"
    write_lines(folder / "late.jsonl", {"event": "agent:spawn", "timestamp": BASE + 9, "data": {"agent_id": "a"}})
    write_lines(
        folder / "early.jsonl",
        {"event": "completion:request", "timestamp": BASE, "data": {"agent_id": "b", "to_agent": "c"}},
        {"event": "session:end", "status": "completed", "timestamp": BASE + 1},
    )
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        early, late = index.sessions()
        assert (early.session_id, early.initiating_agent, early.created_at) == ("early", "b", BASE)
        assert (early.pattern_type, early.status) == ("peer_to_peer", "completed")
        assert (late.session_id, late.status) == ("late", "active")
        assert list(index.sessions("completed")) == [early]
        assert list(index.sessions("active")) == [late]
        with pytest.raises(BadArgument, match="'active' or 'completed', not 'no such status'"):
            index.sessions("no such status")


def test_agents_are_counted_over_all_days(index: Index, rows: Rows) -> None:
    known: dict[str, list[float]] = {}
    for row in rows:
        for agent in orjson.loads(row["participating_agents"]):
            known.setdefault(agent, []).append(row["timestamp"])
    found = index.agents()
    assert [one.agent for one in found] == sorted(known)
    for one in found:
        times = known[one.agent]
        assert (one.entries, one.first_timestamp, one.last_timestamp) == (len(times), min(times), max(times))


def test_rejected_lines_stand_with_their_place_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "responses/sessions/s.jsonl"
    write_lines(path, {"event": "agent:spawn"}, b"not json\n", b"\n", b"[]\n", b"{}\n")
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        found = [(one.file_path, one.line_number, one.reason) for one in index.rejected()]
        relative = "responses/sessions/s.jsonl"
        assert found == [(relative, 2, "not-json"), (relative, 4, "not-object"), (relative, 5, "no-event-type")]
        for one in index.rejected():
            line = path.read_bytes()[one.byte_offset :][: one.byte_length]
            assert line in (b"not json", b"[]", b"{}")


# ---- the reference's four questions, by its own SQL

PEERS = """
        SELECT id, timestamp, file_path, line_number, participating_agents
        FROM ksi_index
        WHERE pattern_type = 'peer_to_peer'
        AND participating_agents LIKE ?
        AND timestamp > ?
        ORDER BY timestamp
    """
ROLES = """
        SELECT timestamp, agent_roles, file_path, line_number
        FROM ksi_index
        WHERE session_id = ?
        AND participating_agents LIKE ?
        ORDER BY timestamp
    """
PENDING = """
        SELECT id, timestamp, initiating_agent, file_path
        FROM ksi_index
        WHERE requests_response = 1
        AND has_response = 0
        AND timestamp > ?
        ORDER BY timestamp
    """
PARTICIPANTS = """
        SELECT DISTINCT participating_agents
        FROM ksi_index
        WHERE session_id = ?
    """


def ask(root: Path, sql: str, *values: Any) -> list[sqlite3.Row]:
    """A SELECT of the reference, run verbatim over every daily file by the standard library."""
    found: list[sqlite3.Row] = []
    for path in daily(root):
        with closing(sqlite3.connect(path)) as database:
            database.row_factory = sqlite3.Row
            found += database.execute(sql, values).fetchall()
    return found


# LIKE takes `_` for any character and ignores case; of these names no two are alike to it.
PLAIN = ["agent_a", "agent_b", "agent_c", "7", "агент"]


@pytest.mark.parametrize("agent", PLAIN)
@pytest.mark.parametrize("age", [0, 5 * 86_400.0, 10**9])
def test_peer_interactions_are_those_of_the_references_sql(
    root: Path, index: Index, agent: str, age: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr("sidecar.query.index.time.time", lambda: now)  # the cut-off may lie among the records
    window = now - BASE + age
    expected = ask(root, PEERS, f'%"{agent}"%', now - window)
    found = index.find_peer_interactions(agent, window)
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected))
    assert [row.timestamp for row in found] == [row["timestamp"] for row in expected]
    assert age == 0 or found
    for row in found[:1]:
        assert dict(row) == dict(zip(expected[0].keys(), row, strict=True))
        assert row["participating_agents"] == row.participating_agents == row[4]


@pytest.mark.parametrize("agent", PLAIN)
def test_role_histories_are_those_of_the_references_sql(root: Path, index: Index, agent: str) -> None:
    longest = 0
    for session in [one.session_id for one in index.sessions()]:
        expected = []
        for event in ask(root, ROLES, session, f'%"{agent}"%'):
            roles = orjson.loads(event["agent_roles"])
            if agent in roles:
                expected.append({"timestamp": event["timestamp"], "role": roles[agent]})
        found = index.get_agent_role_history(agent, session)
        key = lambda one: (one["timestamp"], one["role"])  # noqa: E731 -- equal times have no order in the reference
        assert sorted(found, key=key) == sorted(expected, key=key)
        assert [one["timestamp"] for one in found] == [one["timestamp"] for one in expected]
        longest = max(longest, len(found))
    assert longest > 10 or agent in ("7", "агент")


@pytest.mark.parametrize("limit", [300, 10**7, 10**9])
def test_pending_requests_are_those_of_the_references_sql(root: Path, index: Index, limit: float) -> None:
    expected = ask(root, PENDING, time.time() - limit)
    found = index.find_pending_requests(limit)
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected))
    assert [row.timestamp for row in found] == [row["timestamp"] for row in expected]
    assert (limit < 10**9 or len(found) > 100) and (not found or dict(found[0])["id"] == found[0].id)


def test_pending_requests_are_of_the_last_five_minutes_unless_told(tmp_path: Path) -> None:
    now = time.time()
    ages = {"old": 400, "new": 100}
    for name, age in ages.items():
        request = {"event": "completion:request", "timestamp": now - age}
        write_lines(tmp_path / f"responses/sessions/{name}.jsonl", request)
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        assert [one.id for one in index.find_pending_requests()] == ["new:0"]
        assert [one.id for one in index.find_pending_requests("10m")] == ["old:0", "new:0"]
        assert [one.id for one in index.find_pending_requests(None)] == ["old:0", "new:0"]


def test_waiting_gives_the_requests_without_an_answer(index: Index, rows: Rows) -> None:
    expected = [row for row in rows if row["requests_response"] and not row["has_response"]]
    found = list(index.waiting())
    assert [one.id for one in found] == [row["id"] for row in expected] and len(found) > 100
    assert list(index.waiting(newest_first=True)) == found[::-1]
    assert list(index.waiting(limit=3)) == found[:3]
    for name in {one.author for one in found} | {to for one in found for to in one.addressees}:
        if name is not None:
            assert list(index.waiting(by=name)) == [one for one in found if one.author == name]
            assert list(index.waiting(to=name)) == [one for one in found if name in one.addressees]
    both = [one for one in found if one.author == "agent_a" and "agent_b" in one.addressees]
    assert list(index.waiting(by="agent_a", to="agent_b")) == both
    middle = found[len(found) // 2].timestamp + 0.5
    older = [one for one in found if one.timestamp < middle]
    assert list(index.waiting(older_than=time.time() - middle)) == older


def test_session_participants_are_those_of_the_references_sql(root: Path, index: Index) -> None:
    for session in [one.session_id for one in index.sessions()] + ["nobody's"]:
        everybody: set[str] = set()
        for row in ask(root, PARTICIPANTS, session):
            everybody.update(orjson.loads(row["participating_agents"]))
        assert index.get_session_participants(session) == sorted(everybody)


def test_the_library_is_exact_where_the_references_like_is_not(tmp_path: Path) -> None:
    names = ["agent_a", "agentXa", "AGENT_A", "100%", "100 or more", 'quo"te']
    for n, name in enumerate(names):
        data = {"agent_id": name, "to_agent": "z", "role": "peer"}
        request = {"event": "completion:request", "timestamp": BASE + n, "data": data}
        write_lines(tmp_path / "responses/sessions/s.jsonl", request)
    index_tree(tmp_path)
    window = time.time() - BASE + 1
    # The reference's SQL takes `_` and `%` for wildcards, ignores case, and does not find a name that JSON escapes.
    found = {name: len(ask(tmp_path, PEERS, f'%"{name}"%', 0.0)) for name in names}
    assert found == {"agent_a": 3, "agentXa": 1, "AGENT_A": 3, "100%": 2, "100 or more": 1, 'quo"te': 0}
    with Index(tmp_path) as index:
        for n, name in enumerate(names):
            assert [one.timestamp for one in index.find_peer_interactions(name, window)] == [BASE + n]
            assert index.get_agent_role_history(name, "s") == [{"timestamp": BASE + n, "role": "peer"}]


# ---- the view


def test_the_view_has_the_references_columns_in_their_order(root: Path) -> None:
    columns = """
        id timestamp event_type session_id file_path line_number byte_offset initiating_agent participating_agents
        agent_roles pattern_type conversation_id correlation_id is_completion is_request has_response requests_response
    """
    for path in daily(root):
        with closing(sqlite3.connect(path)) as database:
            assert [row[1] for row in database.execute("PRAGMA table_info(ksi_index)")] == columns.split()
            types = "text real text text text integer integer text text text text text"
            for row in database.execute("SELECT * FROM ksi_index LIMIT 50"):
                assert [type(value) for value in row[:12]] == [
                    {"text": str, "real": float, "integer": int}[name] for name in types.split()
                ]
                assert row[12] is None or isinstance(row[12], str)
                assert set(row[13:]) <= {0, 1}


def test_an_entry_is_a_frozen_value_with_the_columns_as_attributes(index: Index) -> None:
    assert tuple(field.name for field in fields(Entry)) == FIELDS
    for entry in index.timeline(limit=300):
        assert isinstance(entry.timestamp, float)
        assert isinstance(entry.participating_agents, tuple)
        assert isinstance(entry.agent_roles, dict)
        assert all(type(getattr(entry, name)) is bool for name in FIELDS[13:17])
        assert all(type(getattr(entry, name)) is int for name in ("line_number", "byte_offset"))
    with pytest.raises(FrozenInstanceError):
        entry.id = "another"  # type: ignore[misc]


def test_a_day_that_comes_or_goes_is_seen_at_once(tmp_path: Path) -> None:
    """The list of days is kept as long as the folder has not changed."""
    log = tmp_path / "responses/sessions/s.jsonl"
    with Stepped(reference(tmp_path)) as stepped, Index(tmp_path) as index:
        for number in range(30):
            write_lines(log, {"event": "agent:say", "timestamp": BASE + DAY * number})
            stepped.turn()
            assert len(list(index.timeline())) == number + 1
            if number % 7 == 0:
                past = time.time_ns() - 10**9
                os.utime(tmp_path / "index/daily", ns=(past, past))  # as if nothing had come for long
                assert len(list(index.timeline())) == number + 1
